"""Properties of Tango's interval that must hold for all counts; hypothesis looks for counts for which they do not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm  # type: ignore[import-untyped, unused-ignore]

from measure.statistics import tango_interval, tango_lower, tango_upper

# The same cases in every run, and no limit of time: a busy machine must not fail a test.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
Counts = tuple[int, int, int]
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@st.composite
def counts(draw: st.DrawFn, most: int = 100_000) -> Counts:
    """(lost, gained, n), often with few lost and gained images of many, as tests of networks have them."""
    n = draw(st.integers(1, most))
    discordant = draw(st.one_of(st.integers(0, min(n, 5)), st.integers(0, min(n, 200)), st.integers(0, n)))
    lost = draw(st.integers(0, discordant))
    return lost, discordant - lost, n


@given(counts(), CONFIDENCES)
def test_symmetric(case: Counts, confidence: float) -> None:
    """Exchanging lost and gained changes the sign of the interval."""
    lost, gained, n = case
    low, high = tango_interval(lost, gained, n, confidence)
    assert tango_interval(gained, lost, n, confidence) == pytest.approx((-high, -low), abs=1e-9)
    assert tango_lower(lost, gained, n, confidence) == -tango_upper(gained, lost, n, confidence)


@given(counts(), CONFIDENCES)
def test_contains_the_drop_and_stays_within_100_points(case: Counts, confidence: float) -> None:
    lost, gained, n = case
    low, high = tango_interval(lost, gained, n, confidence)
    assert -100 <= low <= 100 * (lost - gained) / n <= high <= 100
    assert low < high


@given(counts(), CONFIDENCES)
def test_monotone_in_lost(case: Counts, confidence: float) -> None:
    """One more lost image, instead of an unchanged or of a gained one, never lowers a limit."""
    lost, gained, n = case
    low, high = tango_interval(lost, gained, n, confidence)
    more = [(lost + 1, gained)] * (lost + gained < n) + [(lost + 1, gained - 1)] * (gained > 0)
    for worse in more:
        lower, upper = tango_interval(*worse, n, confidence)
        assert lower >= low and upper >= high
        assert lower > low or low == -100
        assert upper > high or high == 100


@given(counts(), st.sampled_from([(0.8, 0.9), (0.9, 0.95), (0.95, 0.99)]))
def test_more_confidence_is_a_wider_interval(case: Counts, confidences: tuple[float, float]) -> None:
    narrow, wide = (tango_interval(*case, confidence) for confidence in confidences)
    assert wide[0] <= narrow[0] and narrow[1] <= wide[1]


@given(counts(most=10_000), st.integers(2, 50))
def test_more_images_at_the_same_rates_are_a_narrower_interval(case: Counts, times: int) -> None:
    lost, gained, n = case
    low, high = tango_interval(lost, gained, n)
    more = tango_interval(times * lost, times * gained, times * n)
    assert low - 1e-9 <= more[0] and more[1] <= high + 1e-9


@given(st.integers(1, 10**7), CONFIDENCES)
def test_zero_cells_have_a_closed_form(n: int, confidence: float) -> None:
    """Nothing lost and nothing gained: z² / (n + z²). Everything gained: 2 z² / (n + z²) above -1. Everything lost: 1."""
    z = float(norm.ppf(confidence))
    assert tango_upper(0, 0, n, confidence) == pytest.approx(100 * z**2 / (n + z**2), rel=1e-7)
    assert tango_upper(n, 0, n, confidence) == 100
    assert tango_upper(0, n, n, confidence) == pytest.approx(-100 + 200 * z**2 / (n + z**2), rel=1e-7, abs=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 10_000), CONFIDENCES)
def test_one_zero_cell_gives_the_score_limit_of_a_single_share(lost: int, more: int, confidence: float) -> None:
    """If nothing is gained, the lower limit of the drop is not above Wilson's lower limit of the share of lost images."""
    n = lost + more
    z = float(norm.ppf(confidence))
    share = lost / n
    middle, half = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    wilson = 100 * (middle - half) / (1 + z * z / n)
    assert tango_lower(lost, 0, n, confidence) <= wilson + 1e-7


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (0, 1)])
@given(confidence=st.floats(0.6, 0.999))
def test_a_single_image_says_little(lost: int, gained: int, confidence: float) -> None:
    """n = 1: with z, the limits are the closed forms of zero cells, and no gate of a few points can pass."""
    z = float(norm.ppf(confidence))
    upper = {(0, 0): z**2 / (1 + z**2), (1, 0): 1.0, (0, 1): -1 + 2 * z**2 / (1 + z**2)}[lost, gained]
    assert tango_upper(lost, gained, 1, confidence) == pytest.approx(100 * upper, rel=1e-7, abs=1e-6)
