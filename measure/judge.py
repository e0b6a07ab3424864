"""The judge of an engine: the drop over all images and the loss of every class -> one verdict.

All choices are made with the verdicts on the images that choose, by the same rules as the gate. data/duplicates.py decides
which images count.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from measure.doubts import doubts_of, is_far_better
from measure.gate import Gate, drop_of, paired, worst
from measure.limits import SIGNIFICANCE, limited, worst_class
from measure.predictions import Classes, Predictions, truth_of
from measure.statistics import holm, p_above, tango_lower, tango_upper
from measure.stratified import Paired
from measure.verdict import ClassLoss, ClassVerdict, Drop, GateLoss, Verdict

FEWEST = 2  # lost images of a class that has no correct one left; a single image shows nothing


@dataclass(frozen=True)
class Judge:
    """`counted` [N]: the images that count in a verdict, None for all; `names`: the classes in the order of the labels.

    `doubts_gains`: an engine that is far better than its baseline does not pass.
    """

    gate: Gate
    counted: NDArray[np.bool_] | None = None
    names: Sequence[str] = ()
    doubts_gains: bool = False

    def drop(self, baseline: Predictions, candidate: Predictions) -> Drop:
        """What the candidate lost against the baseline on the same images, and whether it passes."""
        truth, before, after = self.of_counted(baseline, candidate)
        losses = self.losses(truth, before, after)
        found = drop_of(before == truth, after == truth, self.gate.max_drop, self.of_classes(losses))
        classes = [entry for entry in losses if entry.verdict != "pass"]
        doubts = doubts_of(truth, before, after)
        if self.doubts_gains and is_far_better(found.points, found.upper_95):
            doubts.append("far_better")
        found = found.model_copy(update={"classes": classes, "doubts": doubts})
        if found.failed_classes:
            return found.model_copy(update={"verdict": "fail", "needed": None})
        verdict: Verdict = worst([found.verdict, "inconclusive"]) if doubts else found.verdict
        return found.model_copy(update={"verdict": verdict})

    def of_classes(self, losses: Sequence[ClassLoss]) -> list[GateLoss]:
        """The losses against the gates of classes. A class without images has the counts of none."""
        gate, counts = self.gate, {entry.label: Paired(entry.lost, entry.gained, entry.n) for entry in losses}
        found = [
            limited(f"recall:{name}", [counts.get(name, Paired(0, 0, 0))], limit, name) for name, limit in gate.recall.items()
        ]
        if gate.worst_class is not None:
            found.append(worst_class(counts, gate.worst_class))
        if gate.balanced is not None:
            found.append(limited("balanced", list(counts.values()), gate.balanced))
        return found

    def per_class(self, baseline: Predictions, candidate: Predictions) -> list[ClassLoss]:
        """Every class that has counted images, in the order of the labels."""
        return self.losses(*self.of_counted(baseline, candidate))

    def of_counted(self, baseline: Predictions, candidate: Predictions) -> tuple[Classes, Classes, Classes]:
        """The class of every counted image, and what baseline and candidate predict for it."""
        arrays = truth_of(baseline), baseline.first, candidate.first
        if self.counted is None:
            return arrays
        truth, before, after = (array[self.counted] for array in arrays)
        return truth, before, after

    def losses(self, truth: Classes, before: Classes, after: Classes) -> list[ClassLoss]:
        """Every class of `truth` against `gate.class_limit`, or against its own limit of recall if that is larger."""
        limit = self.gate.class_limit
        labels = np.unique(truth)
        found = [loss_of(named(self.names, int(label)), (before == label)[truth == label], (after == label)[truth == label])
                 for label in labels]  # fmt: skip
        if limit is None:
            return found
        limits = [max(limit, self.gate.recall.get(entry.label, limit)) for entry in found]
        adjusted = holm([p_above(entry.lost, entry.gained, entry.n, own) for entry, own in zip(found, limits, strict=True)])
        return [
            entry.model_copy(update={"p": p, "verdict": verdict_of(entry, p, own)})
            for entry, p, own in zip(found, adjusted, limits, strict=True)
        ]


def named(classes: Sequence[str], label: int) -> str:
    """The name of a class; a network may have more classes than the data set has names."""
    return classes[label] if label < len(classes) else f"class {label}"


def judge_of(gate: Gate, images: Path, checked: Path | None, split: Literal["val", "test"] = "test") -> Judge:
    """The judge of a run on the images of `split`.

    `images` is its `index`, `checked` its `check_images`; runs of earlier versions have none.
    """
    counted = None
    if checked is not None:
        with np.load(checked / "duplicates.npz") as arrays:
            counted = arrays[{"val": "chooses", "test": "counted"}[split]]
    classes = json.loads((images / "dataset.json").read_text())["classes"]
    # Searches go on where an engine is far better than a baseline that was not trained to its end; the judge doubts it.
    return Judge(gate, counted, classes, doubts_gains=split == "test")


def loss_of(label: str, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> ClassLoss:
    """The loss of one class; element i of both arrays says whether its image i is classified correctly."""
    counts = paired(before, after)
    lost, gained, n = map(int, counts)
    return ClassLoss(
        label=label,
        n=n,
        baseline_top1=100 * float(before.mean()),
        top1=100 * float(after.mean()),
        points=counts.points,
        lost=lost,
        gained=gained,
        lower_95=tango_lower(lost, gained, n),
        upper_95=tango_upper(lost, gained, n),
    )


def verdict_of(entry: ClassLoss, p: float, limit: float) -> ClassVerdict:
    """`p` is Holm-corrected."""
    if p < SIGNIFICANCE:
        return "fail"
    assert entry.lower_95 is not None
    lost_whole = entry.top1 == 0 and entry.lost >= FEWEST
    return "suspicious" if entry.lower_95 > limit or lost_whole else "pass"
