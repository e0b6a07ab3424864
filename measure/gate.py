"""The gate: may this engine go to the device in the baseline's place?

Two boolean arrays over the same images -> the drop and its verdict -> the exit code of the run. An engine fails when
its drop reaches the limit, passes when the 95 % upper limit of the drop is below it, and is inconclusive in between.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.config import Config
from measure.predictions import Predictions, truth_of
from measure.statistics import images_to_settle, tango_upper
from measure.verdict import Drop, Verdict

BEST_TO_WORST: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")


class Gate(Config):
    """`max_drop`: percentage points of top-1 that must not be lost; `strict`: inconclusive ends the run with code 1."""

    max_drop: float = Field(default=1.0, allow_inf_nan=False)
    strict: bool = False


def drop_between(baseline: Predictions, candidate: Predictions, gate: Gate) -> Drop:
    """What the candidate lost against the baseline on the same images."""
    truth = truth_of(baseline)
    return drop_of(baseline.first == truth, candidate.first == truth, gate.max_drop)


def drop_of(baseline_correct: NDArray[np.bool_], candidate_correct: NDArray[np.bool_], max_drop: float) -> Drop:
    """What the candidate lost against the baseline; element i of both is image i."""
    assert baseline_correct.shape == candidate_correct.shape, (baseline_correct.shape, candidate_correct.shape)
    n = len(baseline_correct)
    lost = int(np.sum(baseline_correct & ~candidate_correct))
    gained = int(np.sum(~baseline_correct & candidate_correct))
    right = int(np.sum(baseline_correct))
    points = 100 * (lost - gained) / n
    upper = tango_upper(lost, gained, n)
    verdict = verdict_of(points, upper, max_drop)
    return Drop(
        points=points,
        relative_percent=100 * (lost - gained) / right if right else None,
        upper_95=upper,
        lost=lost,
        gained=gained,
        n=n,
        verdict=verdict,
        needed=images_to_settle(lost, gained, n, max_drop) if verdict == "inconclusive" else None,
    )


def verdict_of(points: float, upper_95: float, max_drop: float) -> Verdict:
    if points >= max_drop:
        return "fail"
    return "pass" if upper_95 < max_drop else "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; "inconclusive" for none, because nothing was shown."""
    return max(verdicts, key=BEST_TO_WORST.index, default="inconclusive")


def exit_code(verdict: Verdict, strict: bool, missing_requested: bool) -> int:
    """1 for a failed gate, which outranks 3 for a target that was asked for by name and cannot be built; else 0."""
    if verdict == "fail" or (strict and verdict == "inconclusive"):
        return 1
    return 3 if missing_requested else 0
