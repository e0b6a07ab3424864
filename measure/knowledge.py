"""Has the baseline learnt anything? Its predictions are compared with the best constant prediction and with random guessing.

A constant prediction of the most frequent class gets all images of this class right, which may be most of the images. All
tests are one-sided at 5 %: with few images, a network is not reported as untrained by chance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]

SIGNIFICANCE = 0.05
LITTLE = 0.25  # informedness: 0 for random guessing and for a constant prediction, 1 for a perfect one
ENOUGH = 20  # unlabelled images; fewer could all be of one class


@dataclass(frozen=True)
class Knowledge:
    """Statistics of the predictions [N] of a network, and of the labels [N] if there are any.

    predicted     the class that is predicted most often, for `predicted_share` of the images
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
    """`labels` is None for unlabelled images: then only a constant prediction for `ENOUGH` images counts as nothing learnt."""
    n = len(predicted)
    favourite, share = most_frequent(predicted)
    if labels is None:
        return Knowledge(n, favourite, share, learnt_nothing=share == 1 and n >= ENOUGH)
    majority, majority_share = most_frequent(labels)
    right = predicted == labels
    known = informedness(right, labels)
    others = int(np.sum(labels != favourite))
    if share == 1:  # a network that recognises half of the images of the other classes would hardly miss so many of them
        nothing = 0.5**others <= SIGNIFICANCE
    else:
        from scipy import stats  # type: ignore[import-untyped, unused-ignore]

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
    """Balanced accuracy, scaled so that chance is 0 and perfect is 1; 0 if there is only one class."""
    present = np.unique(labels)
    if len(present) < 2:
        return 0.0
    balanced = float(np.mean([right[labels == label].mean() for label in present]))
    chance = 1 / len(present)
    return (balanced - chance) / (1 - chance)


def sign_test(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """p of the hypothesis that `right` is not better than `other`, from the images where the two differ."""
    from scipy import stats  # type: ignore[import-untyped, unused-ignore]

    better, worse = int(np.sum(right & ~other)), int(np.sum(~right & other))
    return float(stats.binomtest(better, better + worse, 0.5, alternative="greater").pvalue) if better + worse else 1.0
