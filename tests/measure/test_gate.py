"""Verdicts, and the exit code that follows from them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from measure.gate import Gate, drop_of, exit_code, worst
from measure.limits import too_few
from measure.verdict import Verdict


def correct_except(n: int, wrong: range) -> NDArray[np.bool_]:
    correct = np.ones(n, dtype=np.bool_)
    correct[wrong] = False
    return correct


def test_counts_and_points() -> None:
    drop = drop_of(correct_except(1000, range(0, 100)), correct_except(1000, range(95, 125)), 1.0)
    assert (drop.lost, drop.gained, drop.n) == (25, 95, 1000)
    assert drop.points == -7.0
    assert drop.relative_percent == pytest.approx(-100 * 70 / 900)
    assert drop.points < drop.upper_95 < 0
    assert drop.verdict == "pass" and drop.needed is None


@pytest.mark.parametrize(
    ("lost", "n", "max_drop", "verdict"),
    [
        (0, 1000, 1.0, "pass"),
        (0, 100, 1.0, "inconclusive"),
        (5, 1000, 1.0, "inconclusive"),
        (9, 1000, 1.0, "inconclusive"),
        (10, 1000, 1.0, "fail"),
        (11, 1000, 1.0, "fail"),
        (0, 1000, 0.0, "fail"),
        (0, 1000, -5.0, "fail"),
    ],
)
def test_verdict(lost: int, n: int, max_drop: float, verdict: Verdict) -> None:
    drop = drop_of(correct_except(n, range(0)), correct_except(n, range(lost)), max_drop)
    assert drop.verdict == verdict
    assert (drop.needed is not None) == (verdict == "inconclusive")


def test_a_baseline_that_gets_nothing_right_has_no_relative_drop() -> None:
    nothing = correct_except(100, range(100))
    assert drop_of(nothing, nothing, 1.0).relative_percent is None


def test_worst() -> None:
    assert worst(["pass", "fail", "inconclusive"]) == "fail"
    assert worst(["pass", "inconclusive"]) == "inconclusive"
    assert worst(["pass"]) == "pass"
    assert worst([]) == "inconclusive"


@pytest.mark.parametrize(
    ("verdict", "strict", "missing", "code"),
    [
        ("pass", False, False, 0),
        ("pass", True, False, 0),
        ("pass", False, True, 3),
        ("inconclusive", False, False, 0),
        ("inconclusive", True, False, 1),
        ("inconclusive", False, True, 3),
        ("inconclusive", True, True, 1),
        ("fail", False, False, 1),
        ("fail", False, True, 1),
    ],
)
def test_exit_code(verdict: Verdict, strict: bool, missing: bool, code: int) -> None:
    assert exit_code(verdict, strict, missing) == code


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        Gate(max_drop=float("nan"))


@pytest.mark.parametrize(
    ("lost", "gained", "n", "few"),
    [
        (0, 0, 200, True), (0, 0, 300, False), (3, 1, 300, True), (60, 30, 3333, False), (5, 5, 500, True), (5, 5, 1000, False),
        (1, 0, 50, True),  # 2 points, which may be chance
        (20, 0, 50, False),  # it surely fails
    ],
)  # fmt: skip
def test_whether_the_images_are_too_few_to_tell(lost: int, gained: int, n: int, few: bool) -> None:
    drop = drop_of(correct_except(n, range(gained)), correct_except(n, range(gained, gained + lost)), 1.0)
    assert (drop.lost, drop.gained) == (lost, gained)
    assert too_few(drop) is few
