"""Engines of a target with their predictions and latencies -> the one that ships: the quickest that passes the gate."""

from collections.abc import Mapping, Sequence

from core.cache import Artifact
from core.engine_name import EngineName
from measure.gate import Gate
from measure.judge import Judge
from measure.predictions import read_predictions
from measure.verdict import Drop


def drop(predictions: Mapping[EngineName, Artifact], name: EngineName, judge: Judge) -> Drop | None:
    """The drop of the engine against the baseline of its target; None if the baseline was not measured."""
    baseline = EngineName.baseline(name.target)
    if baseline not in predictions:
        return None
    before, after = (read_predictions(predictions[each].path) for each in (baseline, name))
    return judge.drop(before, after)


def kept_back(drop: Drop, gate: Gate) -> bool:
    """Whether the gate keeps an engine with this drop from shipping."""
    return drop.verdict == "fail" or (gate.strict and drop.verdict == "inconclusive")


def fails(predictions: Mapping[EngineName, Artifact], name: EngineName, judge: Judge) -> bool:
    """Whether the gate keeps the engine from shipping; False if there is no baseline to compare with."""
    found = drop(predictions, name, judge)
    return found is not None and kept_back(found, judge.gate)


def quickest(
    names: Sequence[EngineName], predictions: Mapping[EngineName, Artifact], latency: Artifact, judge: Judge
) -> EngineName:
    """The quickest of the engines that pass; if none passes, the quickest of all."""
    timed = latency.metrics["timed"]
    passing = [name for name in names if not fails(predictions, name, judge)]
    return min(passing or names, key=lambda name: float(timed[name.key]["p50"]))


def unmeasured(names: Sequence[EngineName], preferred: str) -> EngineName:
    """The engine that ships if none can run here: the first in the precision that the target prefers."""
    return next((name for name in names if name.form == preferred), names[0])
