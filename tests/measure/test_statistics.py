"""Tango's interval against published examples and against brute force."""

import numpy as np
import pytest
from scipy.optimize import brentq  # type: ignore[import-untyped, unused-ignore]
from scipy.stats import norm  # type: ignore[import-untyped, unused-ignore]

from measure.statistics import p_better, tango_interval, tango_upper, upper_limit
from measure.stratified import Paired, images_to_settle

COUNTS = [
    (0, 0, 50),
    (1, 0, 44),
    (0, 1, 44),
    (9, 3, 32),
    (60, 45, 1000),
    (10, 0, 10),
    (9, 1, 10),
    (0, 10, 10),
    (3, 80, 200),
]


@pytest.mark.parametrize(
    ("lost", "gained", "n", "confidence", "low", "high"),
    [
        # Fagerland, Lydersen, Laake, Statistics in Medicine 33:2850, 2014: airway hyper-responsiveness.
        (1, 7, 21, 0.95, -0.517, -0.026),
        # Tango 1998, section 6.2: sleeping difficulties (data of Karacan et al.).
        (9, 3, 32, 0.95, -0.027, 0.390),
        # Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8: complete response before and
        # after consolidation therapy (data of Cavo et al.), as their R package contingencytables prints it.
        (6, 16, 161, 0.95, -0.1240, -0.0054),
        # R, PropCIs::scoreci.mp(25, 28, 618, 0.90), whose estimate is (c - b) / n.
        (28, 25, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_published_examples(lost: int, gained: int, n: int, confidence: float, low: float, high: float) -> None:
    digits = 4 if n in (161, 618) else 3
    assert [round(limit / 100, digits) for limit in tango_interval(lost, gained, n, confidence)] == [low, high]


def test_one_sided_limit_of_tangos_contact_lens_example() -> None:
    """Tango 1998, section 6.1: b=0, c=1, n=44; the lower limit of the 90 % interval is -0.096."""
    assert round(tango_upper(1, 0, 44, 0.95) / 100, 3) == 0.096


def brute_force_upper(lost: int, gained: int, n: int, z: float) -> float:
    """The largest difference on a fine grid that the score test accepts; the likelihood maximised on a grid as well."""
    accepted = (lost - gained) / n
    for delta in np.arange(np.floor(accepted * 2000) / 2000, 1, 0.0005):
        low, high = max(0.0, -delta), (1 - delta) / 2
        gained_rate = np.linspace(low, high, 20001)[1:-1]
        lost_rate = gained_rate + delta
        same_rate = 1 - lost_rate - gained_rate
        likelihood = gained * np.log(gained_rate) + lost * np.log(lost_rate) + (n - lost - gained) * np.log(same_rate)
        best = gained_rate[np.argmax(likelihood)]
        deviation = np.sqrt((2 * best + delta - delta**2) / n)
        if ((lost - gained) / n - delta) / deviation >= -z:
            accepted = max(accepted, float(delta))
    return 100 * accepted


@pytest.mark.parametrize(("lost", "gained", "n"), [(9, 3, 32), (1, 7, 21), (0, 3, 40), (12, 30, 60)])
def test_equals_brute_force(lost: int, gained: int, n: int) -> None:
    assert tango_upper(lost, gained, n) == pytest.approx(brute_force_upper(lost, gained, n, float(norm.ppf(0.95))), abs=0.11)


def most_likely_gained(lost: int, gained: int, n: int, delta: float) -> float:
    """P(gained) where the likelihood under P(lost) - P(gained) = delta is largest: the root of its derivative, by bisection."""

    def slope(rate: float) -> float:
        same = 1 - delta - 2 * rate
        return gained / rate + lost / (rate + delta) - 2 * (n - lost - gained) / same

    low, high = max(0.0, -delta), (1 - delta) / 2
    inside = 1e-13 * (high - low)
    low, high = low + inside, high - inside
    if slope(low) <= 0:
        return low
    return high if slope(high) >= 0 else float(brentq(slope, low, high, xtol=1e-16))


def solved_upper(lost: int, gained: int, n: int, z: float) -> float:
    """The largest root of Tango's score equation in points, where the most likely rates come from the likelihood itself."""

    def excess(delta: float) -> float:
        rate = most_likely_gained(lost, gained, n, delta)
        return n * delta - (lost - gained) - z * float(np.sqrt(n * (2 * rate + delta - delta**2)))

    return 100 * float(brentq(excess, (lost - gained) / n + 1e-9 / n, 1 - 1e-9, xtol=1e-13))


def drawn(seed: int) -> tuple[int, int, int]:
    """Counts as tests of networks have them; every third case has a count of 0."""
    rng = np.random.default_rng(seed)
    n = int(10 ** rng.uniform(0.5, 4.5))
    rates = 10 ** rng.uniform(-4, -0.5, 2)
    lost, gained, _ = rng.multinomial(n, [*rates, 1 - rates.sum()])
    return int(lost) * (seed % 3 != 1), int(gained) * (seed % 3 != 2), n


@pytest.mark.parametrize("seed", range(60))
def test_equals_a_solution_of_the_score_equation_without_its_closed_form(seed: int) -> None:
    lost, gained, n = drawn(seed)
    found = tango_upper(lost, gained, n)
    assert found == pytest.approx(solved_upper(lost, gained, n, float(norm.ppf(0.95))), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_symmetric_and_monotone(seed: int) -> None:
    """One more lost image instead of an unchanged or a gained one raises both limits: no engine passes by losing more."""
    lost, gained, n = drawn(seed)
    low, high = tango_interval(lost, gained, n)
    assert tango_interval(gained, lost, n) == pytest.approx((-high, -low), abs=1e-12)
    assert low <= 100 * (lost - gained) / n <= high and low < high
    if lost + gained < n:
        more = tango_interval(lost + 1, gained, n)
        assert more[0] > low and more[1] > high
    if gained:
        more = tango_interval(lost + 1, gained - 1, n)
        assert more[0] > low and more[1] > high
    if lost + gained + 2 <= n:  # one more of each: the drop is the same and less certain
        wider = tango_interval(lost + 1, gained + 1, n)
        assert wider[0] < low and wider[1] > high


def test_every_outcome_of_few_images_is_monotone() -> None:
    """All counts of up to 12 images, so also n = 1 and every cell that is 0."""
    for n in range(1, 13):
        for lost in range(n + 1):
            for gained in range(n + 1 - lost):
                upper = tango_upper(lost, gained, n)
                assert 100 * (lost - gained) / n <= upper <= 100
                if lost + gained < n:
                    assert tango_upper(lost + 1, gained, n) > upper or upper == 100
                if gained:
                    assert tango_upper(lost + 1, gained - 1, n) > upper


@pytest.mark.parametrize(("lost", "gained", "upper"), [(0, 0, 73.01), (1, 0, 100.0), (0, 1, 46.03)])
def test_a_single_image(lost: int, gained: int, upper: float) -> None:
    """z² / (1 + z²) = 0.7301 with z = 1.645; gained: -1 + 2 z² / (1 + z²)."""
    assert tango_upper(lost, gained, 1) == pytest.approx(upper, abs=0.006)


@pytest.mark.parametrize("n", [1, 21, 10_000, 1_000_000])
def test_without_discordant_images_the_limit_has_a_closed_form(n: int) -> None:
    z = float(norm.ppf(0.95))
    assert tango_upper(0, 0, n) == pytest.approx(100 * z**2 / (n + z**2), rel=1e-9)


def test_when_every_image_is_lost_or_gained() -> None:
    z = float(norm.ppf(0.95))
    assert tango_upper(10, 0, 10) == 100
    assert tango_upper(0, 10, 10) == pytest.approx(-100 + 200 * z**2 / (10 + z**2), rel=1e-9)


@pytest.mark.parametrize(("lost", "gained", "n"), COUNTS)
def test_order(lost: int, gained: int, n: int) -> None:
    points = 100 * (lost - gained) / n
    low, high = tango_interval(lost, gained, n)
    assert -100 <= low <= points <= high <= 100
    assert low < high
    assert tango_upper(lost, gained, n) <= high
    swapped = tango_interval(gained, lost, n)
    assert swapped == pytest.approx((-high, -low))


def test_grows_with_lost_and_shrinks_with_images() -> None:
    by_lost = [tango_upper(lost, 5, 100) for lost in range(0, 96)]
    assert by_lost == sorted(set(by_lost))
    by_images = [tango_upper(6 * k, 4 * k, 100 * k) for k in range(1, 20)]
    assert by_images == sorted(set(by_images), reverse=True)


@pytest.mark.parametrize(("lost", "gained", "n", "max_drop"), [(12, 8, 1000, 1.0), (0, 0, 100, 1.0), (3, 9, 500, -0.5)])
def test_images_to_settle_is_the_smallest_number(lost: int, gained: int, n: int, max_drop: float) -> None:
    images = images_to_settle([Paired(lost, gained, n)], max_drop)
    assert images is not None and images > n
    below, above = (100 * upper_limit(lost * m / n, gained * m / n, m, float(norm.ppf(0.95))) for m in (images, images - 1))
    assert below < max_drop <= above


def test_images_to_settle_without_discordant_images_has_a_closed_form() -> None:
    """z² / (n + z²) < 1 % from n = 99 z² = 267.8… on."""
    assert images_to_settle([Paired(0, 0, 100)], 1.0) == 268


def test_images_to_settle_at_the_edges() -> None:
    assert images_to_settle([Paired(10, 0, 1000)], 1.0) is None, "a drop of exactly the limit never passes"
    assert images_to_settle([Paired(9_999_999, 0, 1_000_000_000)], 1.0) is None, "more images than anybody has"
    assert images_to_settle([Paired(0, 0, 1000)], 1.0) == 1000, "settled already"


@pytest.mark.parametrize(
    ("right", "n", "other_right", "other_n", "p"),
    [
        (2999, 3000, 9339, 10_000, 0.0),  # a network on images it was trained on
        (50, 100, 50, 100, 0.5),
        (10, 10, 20, 20, 1.0),  # both get all right
        (95, 100, 90, 100, 0.0897),  # z = 0.05 / sqrt(0.925 * 0.075 * 2 / 100) = 1.342
    ],
)
def test_two_shares_of_different_images(right: int, n: int, other_right: int, other_n: int, p: float) -> None:
    assert p_better(right, n, other_right, other_n) == pytest.approx(p, abs=1e-3)
