"""Predictions of baseline and candidate to the same images -> what each class lost, and which images."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from measure.predictions import Classes
from reports.run_folder import BASELINE, Folder
from reports.schema import ClassDrop, LostImage

MOST_IMAGES = 48


def per_class(folder: Folder, classes: Sequence[str]) -> list[ClassDrop]:
    """What the target's candidate lost of every class that has images, in the order of `classes`.

    Empty where the images have no labels, or the candidate or the baseline no answers.
    """
    if not (folder.labelled and folder.compared):
        return []
    found = []
    for label in np.unique(folder.truth):
        of_class = folder.truth == label
        before, after = (folder.answers[key].first[of_class] == label for key in (BASELINE, folder.candidate))
        lost, gained, n = int(np.sum(before & ~after)), int(np.sum(~before & after)), int(of_class.sum())
        found.append(
            ClassDrop(
                row=folder.candidate_id,
                label=named(classes, int(label)),
                n=n,
                baseline_top1=100 * float(before.mean()),
                top1=100 * float(after.mean()),
                points=100 * (lost - gained) / n,
                lost=lost,
                gained=gained,
            )
        )
    return found


def lost_images(folder: Folder, classes: Sequence[str], name: Callable[[int], str]) -> list[LostImage]:
    """At most `MOST_IMAGES` of the images that the baseline gets right and the target's candidate wrong.

    Unlabelled, of those that the two answer differently. `name(i)` is the name of test image i.
    """
    if not folder.compared:
        return []
    truth, baseline, candidate = folder.truth, folder.answers[BASELINE].first, folder.answers[folder.candidate].first
    lost = np.flatnonzero((baseline == truth) & (candidate != truth))
    return [
        LostImage(
            row=folder.candidate_id,
            index=i,
            name=name(i),
            label=named(classes, int(truth[i])) if folder.labelled else None,
            baseline_answer=named(classes, int(baseline[i])),
            answer=named(classes, int(candidate[i])),
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
