"""Predictions of baseline and candidate for the same images -> the loss of each class, and the lost images."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from measure.judge import Judge, named
from measure.predictions import Classes, truth_of
from reports.run_folder import TargetResult
from reports.schema import ClassDrop, Dataset, LostImage

MOST_IMAGES = 48


def per_class(result: TargetResult, dataset: Dataset, judge: Judge) -> list[ClassDrop]:
    """The loss of the target's candidate in every class that has images, in the order of the classes.

    Empty if the images have no labels, or if there are no predictions of the candidate or of the baseline.
    """
    if not (dataset.labelled and result.compared):
        return []
    baseline, candidate = result.predicted[result.baseline], result.predicted[result.candidate_name]
    row = str(result.candidate_name)
    return [ClassDrop(row=row, **loss.model_dump()) for loss in judge.per_class(baseline, candidate)]


def lost_images(result: TargetResult, dataset: Dataset, judge: Judge, name: Callable[[int], str]) -> list[LostImage]:
    """At most `MOST_IMAGES` of the images that the baseline gets right and the target's candidate wrong.

    Only images that count in the verdict. Of unlabelled images, those for which the two predict different classes. `name(i)` is
    the name of test image i.
    """
    if not result.compared:
        return []
    baseline, candidate = result.predicted[result.baseline], result.predicted[result.candidate_name]
    truth = truth_of(baseline)
    lost = (baseline.first == truth) & (candidate.first != truth)
    if judge.counted is not None:
        lost &= judge.counted
    return [
        LostImage(
            row=str(result.candidate_name),
            index=i,
            name=name(i),
            label=named(dataset.classes, int(truth[i])) if dataset.labelled else None,
            baseline_answer=named(dataset.classes, int(baseline.first[i])),
            answer=named(dataset.classes, int(candidate.first[i])),
        )
        for i in spread(np.flatnonzero(lost).tolist(), truth)[:MOST_IMAGES]
    ]


def spread(images: Sequence[int], truth: Classes) -> list[int]:
    """`images` in turns: one of every class, the classes with the most images first, then a second of each, …"""
    of_class = Counter(int(truth[i]) for i in images)
    taken: Counter[int] = Counter()
    turns = []
    for i in images:
        label = int(truth[i])
        turns.append((taken[label], -of_class[label], label, i))
        taken[label] += 1
    return [i for *_, i in sorted(turns)]
