"""Engines of a target with their predictions for the images that choose, and their latencies -> the engine to be judged.

Nothing here sees the images that judge.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from core.cache import Artifact
from core.engine_name import EngineName
from measure.gate import BEST_TO_WORST
from measure.judge import Judge
from measure.limits import excess
from measure.predictions import read_predictions
from measure.turns import is_quicker
from measure.verdict import Drop, Verdict


def drop(predictions: Mapping[EngineName, Artifact], name: EngineName, judge: Judge) -> Drop | None:
    """The drop of the engine against the baseline of its target; None if the baseline was not measured."""
    baseline = EngineName.baseline(name.target)
    if baseline not in predictions:
        return None
    before, after = (read_predictions(predictions[each].path) for each in (baseline, name))
    return judge.drop(before, after)


def verdict(predictions: Mapping[EngineName, Artifact], name: EngineName, judge: Judge) -> Verdict:
    """The verdict on the engine; "inconclusive" if there is no baseline to compare with."""
    found = drop(predictions, name, judge)
    return found.verdict if found else "inconclusive"


def best(
    names: Sequence[EngineName],
    predictions: Mapping[EngineName, Artifact],
    latency: Artifact,
    judge: Judge,
    sizes: Mapping[EngineName, float],
    prefer: Literal["latency", "size"] = "latency",
) -> EngineName:
    """The quickest of `best_judged`.

    The quickest is the one with the smallest p50. Of all engines that it does not beat in 9 of 10 turns, and itself, the
    smallest file is taken. `sizes` are in bytes. To `prefer` the size takes the smallest file of all.
    """
    timed = latency.metrics["timed"]

    def p50(name: EngineName) -> float:
        return float(timed[name.key]["p50"])

    rivals = best_judged(names, predictions, judge)
    quickest = timed[min(rivals, key=p50).key]["turns"]
    level = [name for name in rivals if prefer == "size" or not is_quicker(quickest, timed[name.key]["turns"])]
    return min(level, key=lambda name: (sizes[name], p50(name)))


def best_judged(names: Sequence[EngineName], predictions: Mapping[EngineName, Artifact], judge: Judge) -> list[EngineName]:
    """Those of the engines that pass; else those that are inconclusive; else the one that fails with the smallest excess."""

    def order(name: EngineName) -> tuple[int, float]:
        found = drop(predictions, name, judge)
        if found is None:
            return BEST_TO_WORST.index("inconclusive"), 0.0
        return BEST_TO_WORST.index(found.verdict), excess(found) if found.verdict == "fail" else 0.0

    orders = {name: order(name) for name in names}
    return [name for name in names if orders[name] == min(orders.values())]


def best_untimed(
    names: Sequence[EngineName], predictions: Mapping[EngineName, Artifact], judge: Judge, sizes: Mapping[EngineName, float]
) -> EngineName:
    """The engine for a device that is not here: of those that are judged best, the smallest file."""
    return min(best_judged(names, predictions, judge), key=lambda name: sizes[name])


def sequence(
    chosen: EngineName, predictions: Mapping[EngineName, Artifact], judge: Judge, milder: str | None = None
) -> tuple[EngineName, ...]:
    """The engines to be judged, from the mildest to `chosen`: see measure/sequence.py.

    Milder is the 8-bit engine of the student `milder`, if there is one. Else it is the same student in 16-bit floats, or in
    FP32. An engine that has a worse verdict than `chosen` on the images that choose is left out. A student that is the
    baseline itself has no engine in FP32.
    """
    floats = [EngineName("student", form, chosen.variant, chosen.target) for form in ("fp16", "bf16", "fp32")]
    before = [] if milder is None else [EngineName("student", "int8", milder, chosen.target)]
    mild = [name for name in (before or floats) if name in predictions][:1]
    if chosen.form in ("fp16", "bf16") and not before:
        return (chosen,)
    limit = BEST_TO_WORST.index(verdict(predictions, chosen, judge))
    return (*(name for name in mild if BEST_TO_WORST.index(verdict(predictions, name, judge)) <= limit), chosen)


def untimed(names: Sequence[EngineName], preferred: str) -> list[EngineName]:
    """The engines in the precision that the target prefers where none can be timed, with the rungs of the ladder if that is
    INT8; all if there is none."""
    floats = ("fp32", "fp16", "bf16")
    found = [name for name in names if name.form == preferred or (preferred == "int8" and name.form not in floats)]
    return found or list(names)


def unmeasured(names: Sequence[EngineName], preferred: str) -> EngineName:
    """The engine that ships if none can run here: the first in the precision that the target prefers."""
    return untimed(names, preferred)[0]
