"""Predictions of baseline and candidate to the same images -> what each class lost, and which images."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from measure.predictions import Classes, truth_of
from reports.run_folder import TargetResult
from reports.schema import ClassDrop, Dataset, LostImage

MOST_IMAGES = 48


def per_class(result: TargetResult, dataset: Dataset) -> list[ClassDrop]:
    """What the target's candidate lost of every class that has images, in the order of the classes.

    Empty where the images have no labels, or where there are no predictions of the candidate or the baseline.
    """
    if not (dataset.labelled and result.compared):
        return []
    baseline, candidate = result.predicted[result.baseline], result.predicted[result.candidate_name]
    truth = truth_of(baseline)
    found = []
    for label in np.unique(truth):
        of_class = truth == label
        before, after = (predictions.first[of_class] == label for predictions in (baseline, candidate))
        lost, gained, n = int(np.sum(before & ~after)), int(np.sum(~before & after)), int(of_class.sum())
        found.append(
            ClassDrop(
                row=str(result.candidate_name),
                label=named(dataset.classes, int(label)),
                n=n,
                baseline_top1=100 * float(before.mean()),
                top1=100 * float(after.mean()),
                points=100 * (lost - gained) / n,
                lost=lost,
                gained=gained,
            )
        )
    return found


def lost_images(result: TargetResult, dataset: Dataset, name: Callable[[int], str]) -> list[LostImage]:
    """At most `MOST_IMAGES` of the images that the baseline gets right and the target's candidate wrong.

    On unlabelled images, of those for which the two predict different classes. `name(i)` is the name of test image i.
    """
    if not result.compared:
        return []
    baseline, candidate = result.predicted[result.baseline], result.predicted[result.candidate_name]
    truth = truth_of(baseline)
    lost = np.flatnonzero((baseline.first == truth) & (candidate.first != truth))
    return [
        LostImage(
            row=str(result.candidate_name),
            index=i,
            name=name(i),
            label=named(dataset.classes, int(truth[i])) if dataset.labelled else None,
            baseline_answer=named(dataset.classes, int(baseline.first[i])),
            answer=named(dataset.classes, int(candidate.first[i])),
        )
        for i in spread(lost.tolist(), truth)[:MOST_IMAGES]
    ]


def spread(images: Sequence[int], truth: Classes) -> list[int]:
    """`images` by turns: one of every class, the classes with the most first, then a second of each, …"""
    of_class = Counter(int(truth[i]) for i in images)
    taken: Counter[int] = Counter()
    turns = []
    for i in images:
        label = int(truth[i])
        turns.append((taken[label], -of_class[label], label, i))
        taken[label] += 1
    return [i for *_, i in sorted(turns)]


def named(classes: Sequence[str], label: int) -> str:
    """A network may know more classes than the data set has names for."""
    return classes[label] if label < len(classes) else f"class {label}"
