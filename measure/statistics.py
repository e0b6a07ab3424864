"""The difference in accuracy of two networks on the same images, with its confidence interval: Tango's score interval.

Counts -> percentage points. Of `n` images, `lost` are right with the baseline only, `gained` with the candidate only.
Paper: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
Statistics in Medicine 17:891-908, 1998. The interval contains every difference that the score test does not reject. Unlike
the Wald interval, it is also correct when hardly any image is lost or gained.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped, unused-ignore]
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped, unused-ignore]

# No test set is larger. A larger number would only repeat that the drop is nearly at the limit.
MOST_IMAGES = 10**9


def tango_upper(lost: int, gained: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper confidence limit of the drop (lost - gained) / n, in percentage points."""
    assert n > 0 and lost >= 0 and gained >= 0 and lost + gained <= n, (lost, gained, n)
    return 100 * upper_limit(lost, gained, n, float(ndtri(confidence)))


def tango_interval(lost: int, gained: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided confidence interval of the drop (lost - gained) / n, in percentage points."""
    assert n > 0 and lost >= 0 and gained >= 0 and lost + gained <= n, (lost, gained, n)
    z = float(ndtri((1 + confidence) / 2))
    return -100 * upper_limit(gained, lost, n, z), 100 * upper_limit(lost, gained, n, z)


def tango_lower(lost: int, gained: int, n: int, confidence: float = 0.95) -> float:
    """One-sided lower confidence limit of the drop (lost - gained) / n, in percentage points."""
    return -tango_upper(gained, lost, n, confidence)


def p_above(lost: int, gained: int, n: int, limit: float) -> float:
    """One-sided p-value of "the drop is at most `limit` points": small if the drop is above the limit.

    The tail of lost - gained is exact, at the most likely rates under that hypothesis (Lloyd and Moldovan, Statistics in
    Medicine 26:2931, 2007, "E" p-value). The normal tail of the score test is not good enough here, because there are many
    classes with few images: with 8 of 8 lost its p is 0.004, too large after a correction for 20 classes, and with 100 images
    it rejects in 3 % of cases instead of 2.5 %. Assumption: of the images that the baseline gets wrong, the candidate gets at
    least half wrong, too. Without it, 8 of 8 lost could come from rates of 53 % lost and 48 % gained.
    """
    delta = limit / 100
    if lost - gained <= n * delta:
        return 1.0
    most = max((1 - delta) / 3, gained / n)
    gained_rate = min(null_gained_rate(lost, gained, n, delta), most)
    lost_rate = gained_rate + delta
    # Sum over k of P(gained = k) times P(at least lost - gained + k of the other images are lost).
    from scipy.stats import binom  # type: ignore[import-untyped, unused-ignore]

    k = np.arange(int(binom.isf(1e-12, n, gained_rate)) + 1)
    tails = binom.sf(lost - gained + k - 1, n - k, lost_rate / (1 - gained_rate))
    return float(min(1.0, np.sum(binom.pmf(k, n, gained_rate) * tails)))


def p_better(right: int, n: int, other_right: int, other_n: int) -> float:
    """One-sided p-value of "`right` of `n` is no larger share than `other_right` of `other_n`" (other images; score test)."""
    pooled = (right + other_right) / (n + other_n)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / other_n))
    return float(ndtr(-(right / n - other_right / other_n) / error)) if error else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number: the chance of any wrong one below 0.05 is at most 5 % (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(value) for value in adjusted]


def fewest(settles: Callable[[int], bool], n: int) -> int | None:
    """The smallest number of images, not below `n`, that `settles` accepts; None if it is above `MOST_IMAGES`.

    `settles` accepts every number above the smallest.
    """
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


@lru_cache(maxsize=2**16)  # of many classes, most have the same counts
def upper_limit(lost: float, gained: float, n: float, z: float) -> float:
    """The largest difference, as a fraction, whose score is not below -z."""
    if lost - gained >= n:
        return 1.0

    def excess(delta: float) -> float:
        return n * delta - (lost - gained) - z * math.sqrt(n * null_variance(lost, gained, n, delta))

    # If no image is lost or gained, the estimate is also a root of `excess`; the limit is about 1/n above it.
    start = (lost - gained) / n + 1e-6 / n
    return float(brentq(excess, start, 1.0, xtol=1e-15))


def null_variance(lost: float, gained: float, n: float, delta: float) -> float:
    """Variance of one image's difference under P(lost) - P(gained) = delta, at its maximum likelihood."""
    if delta < 0:  # exchange lost and gained: the formula for delta >= 0 does not subtract nearly equal numbers
        return null_variance(gained, lost, n, -delta)
    return 2 * null_gained_rate(lost, gained, n, delta) + delta * (1 - delta)


def null_gained_rate(lost: float, gained: float, n: float, delta: float) -> float:
    """P(gained) of maximum likelihood under P(lost) - P(gained) = delta, which is not below 0."""
    a = 2 * n
    b = (2 * n - lost + gained) * delta - lost - gained
    c = -gained * delta * (1 - delta)
    return (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
