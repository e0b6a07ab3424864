"""The gate: may this engine replace the baseline on the device?

Two boolean arrays over the same images -> the drop and its verdict -> the exit code of the run. An engine fails if its drop
reaches the limit. It passes if the 95 % upper limit of the drop is below the limit. Otherwise it is inconclusive.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.config import Config
from measure.statistics import images_to_settle, tango_lower, tango_upper
from measure.verdict import Drop, Verdict

SHARE = 0.05  # points; the user may have meant a smaller limit as a fraction of 1
BEST_TO_WORST: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")


class Gate(Config):
    """Limits in percentage points.

    max_drop         an engine that loses so much top-1 over all images fails
    max_class_drop   an engine that significantly loses more recall of one class fails; None: no limit
    strict           exit code 1 also for "inconclusive"
    """

    max_drop: float = Field(default=1.0, allow_inf_nan=False)
    max_class_drop: float | None = Field(default=5.0, ge=0, lt=100)
    strict: bool = False

    @property
    def class_limit(self) -> float | None:
        """Never below `max_drop`: a loss that is allowed over all images is allowed in one class. None: no limit."""
        limit = None if self.max_class_drop is None else max(self.max_class_drop, self.max_drop)
        return None if limit is None or limit >= 100 else limit


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


def too_few(drop: Drop, max_drop: float) -> bool:
    """Whether the images are too few to tell: this drop neither passes nor is surely above the limit, and no engine could pass
    that differs from the baseline on as many images, not even if it gained as many as it lost."""
    half = (drop.lost + drop.gained) // 2
    surely_fails = bool(drop.failed_classes) or tango_lower(drop.lost, drop.gained, drop.n) > max_drop
    return drop.verdict != "pass" and not surely_fails and tango_upper(half, half, drop.n) >= max_drop


def power_notes(n: int, max_drop: float) -> list[str]:
    """A note if `n` images are too few for an engine to pass that predicts the same as the baseline."""
    least = tango_upper(0, 0, n)
    if max_drop <= 0 or least < max_drop:
        return []
    needed = images_to_settle(0, 0, n, max_drop)
    enough = f"at least {needed:,} are needed" if needed else "no realistic number of images is enough"
    notes = [
        f"{n:,} test image{'s are' if n != 1 else ' is'} too few for a limit of {max_drop:g} point{'s' * (max_drop != 1)}: "
        f"even an engine that predicts exactly like the baseline has an upper limit of {least:.2g}; {enough}."
    ]
    if max_drop < SHARE:
        notes.append(f"MAX_DROP={max_drop:g} is {max_drop:g} percentage points; 1 means one point of accuracy.")
    return notes


def forecast_notes(n: int, max_drop: float) -> list[str]:
    """A note if `n` images are too few for an engine to pass that changes 2 % of the predictions and loses nothing by it."""
    needed = images_to_settle(1, 1, 100, max_drop)
    if needed is None or needed <= max(n, 100):  # a limit that 100 images settle is not the usual case
        return []
    return [
        f"An engine that changes 2 % of the predictions, as many gained as lost, needs {needed:,} test images to pass a limit "
        f"of {max_drop:g} point{'s' * (max_drop != 1)}; {n:,} count here."
    ]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; "inconclusive" for none, because nothing was shown."""
    return max(verdicts, key=BEST_TO_WORST.index, default="inconclusive")


def exit_code(verdict: Verdict, strict: bool, missing_requested: bool) -> int:
    """1 if the gate failed; otherwise 3 if a target that was requested by name cannot be built; otherwise 0."""
    if verdict == "fail" or (strict and verdict == "inconclusive"):
        return 1
    return 3 if missing_requested else 0
