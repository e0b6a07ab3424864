"""How often Tango's interval contains the true drop: exact sums over all possible counts, no random draws.

Of n images a share is lost or gained (the discordance). The interval is meant to contain the true drop with 95 %. The table has
the two-sided interval, and the one-sided upper limit that the gate compares with its limit, at 95 % each. Accepted are 93.5 …
97 %; `OUTSIDE` has the true numbers where the interval leaves that band:

- Above it with fewer than about 3 lost and gained images on average: hardly any other interval is possible. The gate then lets
  fewer engines pass than it could. The upper limit is also above it where no image is gained and fewer than 7 are lost.
- Below it once, by 0.2 points: 200 images, of which 4 are lost on average and none is gained. It is the lower limit that is too
  high there: the upper one, which the gate uses, contains the true drop in 98.2 %.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri  # type: ignore[import-untyped, unused-ignore]
from scipy.stats import binom  # type: ignore[import-untyped, unused-ignore]

from measure.statistics import tango_interval, tango_upper

Counts = NDArray[np.int64]

IMAGES = (200, 500, 1000, 2000, 5000, 10_000)
DISCORDANT = (0.5, 1.0, 2.0, 5.0, 10.0)  # percent of the images
LOST = {"half of them lost": 0.5, "three quarters lost": 0.75, "all lost": 1.0}
BAND = (93.5, 97.0)
# {which are lost: {(images, percent discordant): (two-sided, upper limit), in percent}}
OUTSIDE = {
    "half of them lost": {
        (200, 0.5): (99.79, 99.13), (200, 1.0): (98.60, 97.01), (500, 0.5): (97.78, 96.15),
    },
    "three quarters lost": {
        (200, 0.5): (99.91, 99.90), (200, 1.0): (98.56, 97.92), (500, 0.5): (98.91, 97.89),
    },
    "all lost": {
        (200, 0.5): (99.65, 100.00), (200, 1.0): (98.40, 100.00), (200, 2.0): (93.31, 98.24), (200, 5.0): (96.72, 97.36),
        (500, 0.5): (98.61, 100.00), (500, 2.0): (96.44, 97.19), (1000, 1.0): (96.35, 97.13), (2000, 0.5): (96.31, 97.10),
    },
}  # fmt: skip


def score(lost: Counts, gained: Counts, n: int, delta: float) -> NDArray[np.float64]:
    """Tango's score for a drop of `delta`, not below 0, for arrays of counts; 0 where the variance is 0."""
    a, b, c = 2 * n, (2 * n - lost + gained) * delta - lost - gained, -gained * delta * (1 - delta)
    rate = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    error = np.sqrt(n * (2 * rate + delta * (1 - delta)))
    return np.divide(lost - gained - n * delta, error, out=np.zeros(len(lost)), where=error > 0)


def coverage(n: int, discordance: float, share: float) -> tuple[float, float]:
    """In percent, of the two-sided interval and of the upper limit; `share` of the discordant images is lost."""
    two_sided = upper = 0.0
    for count in range(int(binom.ppf(1e-9, n, discordance)), int(binom.isf(1e-9, n, discordance)) + 1):
        lost = np.arange(count + 1)
        chance = binom.pmf(count, n, discordance) * binom.pmf(lost, count, share)
        found = score(lost, count - lost, n, discordance * (2 * share - 1))
        two_sided += chance[np.abs(found) <= ndtri(0.975)].sum()
        upper += chance[found >= -ndtri(0.95)].sum()
    return 100 * two_sided, 100 * upper


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_contains_what_the_score_accepts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 3000))
    lost, gained, _ = (np.asarray([count]) for count in rng.multinomial(n, [0.02, 0.01, 0.97]))
    low, high = tango_interval(int(lost[0]), int(gained[0]), n)
    upper = tango_upper(int(lost[0]), int(gained[0]), n)
    for delta in np.linspace(0, 0.05, 101):
        found = float(score(lost, gained, n, delta)[0])
        assert (low <= 100 * delta <= high) == (abs(found) <= ndtri(0.975))
        assert (100 * delta <= upper) == (found >= -ndtri(0.95))


@pytest.mark.parametrize("which", LOST)
@pytest.mark.parametrize("n", IMAGES)
def test_coverage(which: str, n: int) -> None:
    for percent in DISCORDANT:
        found = coverage(n, percent / 100, LOST[which])
        if (n, percent) in OUTSIDE[which]:
            assert found == pytest.approx(OUTSIDE[which][n, percent], abs=0.006)
            assert not all(BAND[0] <= each <= BAND[1] for each in found)
        else:
            assert all(BAND[0] <= each <= BAND[1] for each in found), (percent, found)
        assert found[1] >= 94.3, "the gate's own limit is never below the nominal 95 % by more than 0.7 points"
