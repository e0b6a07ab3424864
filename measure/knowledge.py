"""Does a baseline know anything? Its predictions against the best constant prediction and against random guessing.

A constant has the majority class's share of the images right, however many classes there are. All tests are one-sided at 5 %,
so that few images never make a network look as if it knew nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

Classes = NDArray[np.int64]

SIGNIFICANCE = 0.05
LITTLE = 0.25  # informedness: 0 is what guessing and constants have, 1 is perfect
ENOUGH = 20  # unlabelled images: fewer may well be of one class


@dataclass(frozen=True)
class Knowledge:
    """What predictions [N] say about a network, and the labels [N] where there are any.

    predicted     the class that is predicted most often, and `predicted_share` of the images for which it is
    majority      the most frequent label, None without labels; `majority_share` of the images have it
    informedness  (balanced accuracy - 1 / classes) / (1 - 1 / classes), over the classes that have images
    """

    n: int
    predicted: int
    predicted_share: float
    majority: int | None = None
    majority_share: float = 0.0
    top1: float = 0.0
    informedness: float = 0.0
    learnt_nothing: bool = False

    @property
    def constant(self) -> bool:
        return self.predicted_share == 1


def knowledge_of(predicted: Classes, labels: Classes | None) -> Knowledge:
    """`labels` are None where the images have none; then only a constant over `ENOUGH` images counts as nothing learnt."""
    n = len(predicted)
    favourite, share = most_frequent(predicted)
    if labels is None:
        return Knowledge(n, favourite, share, learnt_nothing=share == 1 and n >= ENOUGH)
    majority, majority_share = most_frequent(labels)
    right = predicted == labels
    known = informedness(right, labels)
    others = int(np.sum(labels != favourite))
    if share == 1:  # had it recognised half of the other classes' images, so many misses in a row would be unlikely
        nothing = 0.5**others <= SIGNIFICANCE
    else:
        no_better = sign_test(right, labels == majority) > SIGNIFICANCE
        half_way = (1 + majority_share) / 2
        below_half = stats.binom.cdf(int(right.sum()), n, half_way) <= SIGNIFICANCE
        nothing = bool(no_better and known < LITTLE and below_half)
    return Knowledge(n, favourite, share, majority, majority_share, float(right.mean()), known, nothing)


def most_frequent(classes: Classes) -> tuple[int, float]:
    """The class, and its share."""
    values, counts = np.unique(classes, return_counts=True)
    return int(values[counts.argmax()]), float(counts.max() / len(classes))


def informedness(right: NDArray[np.bool_], labels: Classes) -> float:
    """Balanced accuracy between chance (0) and perfection (1); 0 where there is one class only."""
    present = np.unique(labels)
    if len(present) < 2:
        return 0.0
    balanced = float(np.mean([right[labels == label].mean() for label in present]))
    chance = 1 / len(present)
    return (balanced - chance) / (1 - chance)


def sign_test(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """p of the hypothesis that `right` is right on no more of the images than `other` is, of those where they differ."""
    better, worse = int(np.sum(right & ~other)), int(np.sum(~right & other))
    return float(stats.binomtest(better, better + worse, 0.5, alternative="greater").pvalue) if better + worse else 1.0
