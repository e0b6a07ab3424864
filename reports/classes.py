"""Predictions of baseline and candidate for the same images -> the loss of each class, changed images, confused classes."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from measure.judge import Judge, named
from measure.predictions import Classes, truth_of
from reports.changed import ClassDrop, Confusion, LostImage
from reports.run_folder import TargetResult
from reports.schema import Dataset

MOST_IMAGES = 48
MOST_PAIRS = 100


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

    Only images that count in the verdict; `judge` is that of all test images. Of unlabelled images, those for which the two
    predict different classes. `name(i)` is the name of test image i.
    """
    return changed_images(result, dataset, judge, name, lambda before, after: before & ~after)


def gained_images(result: TargetResult, dataset: Dataset, judge: Judge, name: Callable[[int], str]) -> list[LostImage]:
    """The same for images that the baseline gets wrong and the candidate right; none if the images have no labels."""
    return changed_images(result, dataset, judge, name, lambda before, after: after & ~before)


def changed_images(
    result: TargetResult,
    dataset: Dataset,
    judge: Judge,
    name: Callable[[int], str],
    changed: Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_]],
) -> list[LostImage]:
    """`changed(before, after)` [N] from the images [N] that the baseline and the candidate get right."""
    if not result.compared:
        return []
    baseline, candidate = result.predicted[result.baseline], result.predicted[result.candidate_name]
    truth = truth_of(baseline)
    found = changed(baseline.first == truth, candidate.first == truth)
    counted = result.judged_by(judge).counted
    if counted is not None:
        found &= counted
    return [
        LostImage(
            row=str(result.candidate_name),
            index=result.image(i),
            name=name(result.image(i)),
            label=named(dataset.classes, int(truth[i])) if dataset.labelled else None,
            baseline_answer=named(dataset.classes, int(baseline.first[i])),
            answer=named(dataset.classes, int(candidate.first[i])),
        )
        for i in spread(np.flatnonzero(found).tolist(), truth)[:MOST_IMAGES]
    ]


def confusions(result: TargetResult, dataset: Dataset, judge: Judge) -> list[Confusion]:
    """At most `MOST_PAIRS` pairs of classes that the candidate confuses more or less often than the baseline; the largest
    change first. Without labels, the class of an image is what the baseline predicts."""
    if not result.compared:
        return []
    truth, *predicted = judge.of_counted(result.predicted[result.baseline], result.predicted[result.candidate_name])
    before, after = (Counter(zip(truth.tolist(), first.tolist(), strict=True)) for first in predicted)
    pairs = [pair for pair in before | after if pair[0] != pair[1] and before[pair] != after[pair]]
    pairs.sort(key=lambda pair: (-abs(after[pair] - before[pair]), pair))
    return [
        Confusion(
            row=str(result.candidate_name),
            label=named(dataset.classes, label),
            predicted=named(dataset.classes, taken_for),
            before=before[label, taken_for],
            after=after[label, taken_for],
        )
        for label, taken_for in pairs[:MOST_PAIRS]
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
