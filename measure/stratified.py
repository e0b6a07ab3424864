"""The mean over classes of their drops, with its confidence limits: MOVER on Tango's limits of every class.

Counts of each class -> percentage points. Every class has the same weight, however many images it has: the drop of the
balanced accuracy. With one class it is Tango's interval itself.
Paper: Zou and Donner, Construction of confidence limits about effect measures: a general approach, Statistics in Medicine
27:1693-1702, 2008. The distance from the mean to its limit is the root of the sum of the squared distances in the classes,
divided by their number K: as if each class had the variance that its own limit implies, and the mean the sum of the variances
/ K². A Wald interval would have no width where no image is lost or gained. Tango's limits have one, so this one has, too; with
few images per class it is wider than it must be.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import ndtri  # type: ignore[import-untyped, unused-ignore]

from measure.statistics import fewest, upper_limit

Z_95 = float(ndtri(0.95))


class Paired(NamedTuple):
    """Of `n` images, `lost` are right with the baseline only, `gained` with the candidate only."""

    lost: float
    gained: float
    n: float

    @property
    def points(self) -> float:
        """The drop, in percentage points; 0 of no images."""
        return 100 * (self.lost - self.gained) / self.n if self.n else 0.0


def mean_points(classes: Sequence[Paired]) -> float:
    """The mean over the classes of the points that each lost."""
    return math.fsum(each.points for each in classes) / len(classes)


def mean_upper(classes: Sequence[Paired], z: float = Z_95) -> float:
    """One-sided upper confidence limit of the mean drop, in percentage points; a class without images can have lost all."""
    distances = [100 * (upper_limit(*each, z) if each.n else 1.0) - each.points for each in classes]
    return mean_points(classes) + math.hypot(*distances) / len(classes)


def mean_lower(classes: Sequence[Paired], z: float = Z_95) -> float:
    """One-sided lower confidence limit of the mean drop, in percentage points."""
    return -mean_upper([Paired(each.gained, each.lost, each.n) for each in classes], z)


def unchanged(classes: Sequence[Paired]) -> list[Paired]:
    """The counts of an engine that predicts exactly like the baseline."""
    return [Paired(0, 0, each.n) for each in classes]


def images_to_settle(classes: Sequence[Paired], limit: float) -> int | None:
    """The number of images, of all `classes` together, that bring the upper limit below `limit` points.

    The rates of lost and gained images and the shares of the classes stay the same. Never fewer than there are. None if no
    number is enough (the drop is not below `limit`) or it is above `MOST_IMAGES`.
    """
    n = sum(each.n for each in classes)
    if not n:
        return images_to_settle([Paired(0, 0, 1)], limit)
    if mean_points(classes) >= limit:
        return None

    def settles(images: int) -> bool:
        scale = images / n
        return mean_upper([Paired(each.lost * scale, each.gained * scale, each.n * scale) for each in classes]) < limit

    return fewest(settles, int(n))
