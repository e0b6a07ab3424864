"""Which engine is quicker, and the interval of a ratio, from turns with known times."""

import numpy as np
import pytest

from measure.turns import RESAMPLES, is_quicker, ratios, resampled_p50, share_quicker


@pytest.mark.parametrize(("wins", "quicker"), [(8, False), (9, True), (10, True)])
def test_quicker_means_in_nine_of_ten_turns(wins: int, quicker: bool) -> None:
    ours, theirs = [0.9] * wins + [1.5] * (10 - wins), [1.0] * 10
    assert share_quicker(ours, theirs) == wins / 10
    assert is_quicker(ours, theirs) == quicker and not is_quicker(theirs, ours)


def test_equal_turns_are_not_quicker() -> None:
    assert share_quicker([1.0] * 10, [1.0] * 10) == 0


def test_a_resample_draws_whole_turns_with_all_their_queries() -> None:
    """Turns of unequal length: p50 of a resample is that of the queries of the drawn turns, counted as often as drawn."""
    turns = [[1.0] * 3, [2.0] * 30]
    assert set(resampled_p50(turns)) == {1.0, 2.0}
    assert np.mean(resampled_p50(turns) == 1.0) == pytest.approx(0.25, abs=0.03), "only if the short turn is drawn twice"


def test_turns_that_agree_have_a_narrow_interval_and_the_same_seed_the_same_one() -> None:
    rng = np.random.default_rng(1)
    turns = {name: [list(ms * rng.normal(1, 0.01, 100)) for _ in range(10)] for name, ms in (("fp32", 4.0), ("int8", 1.0))}
    found = ratios(turns)
    low, high = found["fp32"]["int8"]
    assert 3.97 < low < 4.0 < high < 4.03
    assert found["int8"]["fp32"] == pytest.approx([1 / high, 1 / low], rel=1e-3)
    assert found == ratios(turns) and len(resampled_p50(turns["fp32"])) == RESAMPLES


def test_a_slow_turn_of_both_engines_does_not_widen_the_interval_of_their_ratio() -> None:
    """Turns are drawn together for all engines: what slowed both in one turn cancels out."""
    slow = [1.0, 1.0, 1.0, 3.0, 1.0, 2.0, 1.0, 3.0, 2.0, 1.0]
    low, high = ratios({"a": [[4.0 * each] * 5 for each in slow], "b": [[each] * 5 for each in slow]})["a"]["b"]
    assert (low, high) == (4.0, 4.0)
