"""What two networks' answers to the same images say about their difference: Tango's score interval.

Counts -> percentage points. Of `n` images, `lost` are right with the baseline only, `gained` with the candidate only.
Paper: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
Statistics in Medicine 17:891-908, 1998. The interval holds every difference that the score test does not reject; unlike
the Wald interval it stays honest when hardly any image changes sides.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped, unused-ignore]
from scipy.stats import binom, norm  # type: ignore[import-untyped, unused-ignore]

# Beyond this nobody has the images, and the answer would only restate that the drop equals the limit.
MOST_IMAGES = 10**9


def tango_upper(lost: int, gained: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper confidence limit of the drop (lost - gained) / n, in percentage points."""
    assert n > 0 and lost >= 0 and gained >= 0 and lost + gained <= n, (lost, gained, n)
    return 100 * upper_limit(lost, gained, n, float(norm.ppf(confidence)))


def tango_interval(lost: int, gained: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided confidence interval of the drop (lost - gained) / n, in percentage points."""
    assert n > 0 and lost >= 0 and gained >= 0 and lost + gained <= n, (lost, gained, n)
    z = float(norm.ppf((1 + confidence) / 2))
    return -100 * upper_limit(gained, lost, n, z), 100 * upper_limit(lost, gained, n, z)


def tango_lower(lost: int, gained: int, n: int, confidence: float = 0.95) -> float:
    """One-sided lower confidence limit of the drop (lost - gained) / n, in percentage points."""
    return -tango_upper(gained, lost, n, confidence)


def p_above(lost: int, gained: int, n: int, limit: float) -> float:
    """One-sided p-value of "the drop is at most `limit` points": small where it is above.

    The tail of lost - gained is exact, at the most likely rates under that hypothesis (Lloyd and Moldovan, Statistics in
    Medicine 26:2931, 2007, "E" p-value). A class has few images and there are many classes, and there the normal tail of the
    score test is wrong in both directions: with 8 of 8 lost it says 0.004, too much for a correction over 20 classes, and with
    100 images it fails 3 % where it promises 2.5 %. It is assumed that at least half of the images that the baseline gets wrong
    are wrong with the candidate, too; without that, 8 of 8 lost could be 53 % lost and 48 % gained.
    """
    delta = limit / 100
    if lost - gained <= n * delta:
        return 1.0
    most = max((1 - delta) / 3, gained / n)
    gained_rate = min(null_gained_rate(lost, gained, n, delta), most)
    lost_rate = gained_rate + delta
    # P(gained = k) and, of the other images, at least so many more lost than that
    k = np.arange(int(binom.isf(1e-12, n, gained_rate)) + 1)
    tails = binom.sf(lost - gained + k - 1, n - k, lost_rate / (1 - gained_rate))
    return float(min(1.0, np.sum(binom.pmf(k, n, gained_rate) * tails)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, adjusted so that all below 0.05 together are wrong in at most 5 % of cases (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(value) for value in adjusted]


def images_to_settle(lost: int, gained: int, n: int, max_drop: float) -> int | None:
    """How many images, at the same rates of lost and gained, bring the upper limit below `max_drop` points.

    Never fewer than `n`. None where no number does: the drop itself is not below `max_drop`.
    """
    if 100 * (lost - gained) / n >= max_drop:
        return None

    def settles(images: int) -> bool:
        scale = images / n
        return 100 * upper_limit(lost * scale, gained * scale, images, float(norm.ppf(0.95))) < max_drop

    if settles(n):
        return n
    enough = n
    while not settles(enough):
        enough *= 2
        if enough > MOST_IMAGES:
            return None
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if settles(middle):
            enough = middle
        else:
            too_few = middle
    return enough


def upper_limit(lost: float, gained: float, n: float, z: float) -> float:
    """The largest difference, as a fraction, whose score is not below -z."""
    if lost - gained >= n:
        return 1.0

    def excess(delta: float) -> float:
        return n * delta - (lost - gained) - z * math.sqrt(n * null_variance(lost, gained, n, delta))

    # Without discordant images the estimate itself is a root of `excess` too; the limit is of order 1/n away from it.
    start = (lost - gained) / n + 1e-6 / n
    return float(brentq(excess, start, 1.0, xtol=1e-15))


def null_variance(lost: float, gained: float, n: float, delta: float) -> float:
    """Variance of one image's difference under P(lost) - P(gained) = delta, at its maximum likelihood."""
    if delta < 0:  # the mirror image, which does not subtract nearly equal numbers
        return null_variance(gained, lost, n, -delta)
    return 2 * null_gained_rate(lost, gained, n, delta) + delta * (1 - delta)


def null_gained_rate(lost: float, gained: float, n: float, delta: float) -> float:
    """P(gained) of maximum likelihood under P(lost) - P(gained) = delta, which is not below 0."""
    a = 2 * n
    b = (2 * n - lost + gained) * delta - lost - gained
    c = -gained * delta * (1 - delta)
    return (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
