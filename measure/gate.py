"""The gate: may this engine replace the baseline on the device?

Two boolean arrays over the same images -> the drop and its verdict -> the exit code of the run. measure/limits.py has the
limits and their verdicts; the verdict of an engine is the worst of them.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from core.config import Config
from measure.limits import limited
from measure.statistics import tango_upper
from measure.stratified import Paired
from measure.verdict import Drop, GateLoss, Verdict

BEST_TO_WORST: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
Points = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Config):
    """Limits in percentage points. The first four are those of GATE; None: no limit of this kind.

    max_drop         top1: an engine that loses so much top-1 over all images fails
    recall           recall:NAME: the same for the recall of the class of this name
    worst_class      the loss of recall that no class may reach; the engine has to show that of every class
    balanced         the same for the mean over the classes of their losses of recall
    max_class_drop   a safety net beside GATE: an engine that significantly loses more recall of any class fails. Unlike for
                     `worst_class`, nothing has to be shown to pass. None: no limit
    strict           exit code 1 also for "inconclusive"
    """

    max_drop: Points | None = 1.0
    recall: dict[str, Points] = Field(default_factory=dict)
    worst_class: float | None = Field(default=None, ge=0, lt=100)
    balanced: Points | None = None
    max_class_drop: float | None = Field(default=5.0, ge=0, lt=100)
    strict: bool = False

    @model_validator(mode="after")
    def limits_something(self) -> "Gate":
        if not self.limits:
            raise ValueError("the gate has no limit; expected max_drop, recall, worst_class or balanced")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits of GATE by name."""
        recall = {f"recall:{name}": limit for name, limit in self.recall.items()}
        found = {"top1": self.max_drop, **recall, "worst_class": self.worst_class, "balanced": self.balanced}
        return {name: limit for name, limit in found.items() if limit is not None}

    @property
    def text(self) -> str:
        """The limits as the user writes them in GATE."""
        return ",".join(f"{name}={limit:g}" for name, limit in self.limits.items())

    @property
    def class_limit(self) -> float | None:
        """Never below the limits of all classes: a loss that is allowed in each of them is allowed in one. None: no limit."""
        if self.max_class_drop is None:
            return None
        allowed = (self.max_drop, self.worst_class, self.balanced)
        limit = max([self.max_class_drop, *(each for each in allowed if each is not None)])
        return limit if limit < 100 else None


def drop_of(
    baseline_correct: NDArray[np.bool_],
    candidate_correct: NDArray[np.bool_],
    max_drop: float | None,
    others: Sequence[GateLoss] = (),
) -> Drop:
    """What the candidate lost against the baseline; element i of both is image i.

    `max_drop` is the limit of top-1, None: it is no gate. `others` are the losses against the other gates.
    """
    assert baseline_correct.shape == candidate_correct.shape, (baseline_correct.shape, candidate_correct.shape)
    counts = paired(baseline_correct, candidate_correct)
    lost, gained, n = map(int, counts)
    right = int(np.sum(baseline_correct))
    top1 = [] if max_drop is None else [limited("top1", [counts], max_drop)]
    return Drop(
        points=counts.points,
        relative_percent=100 * (lost - gained) / right if right else None,
        upper_95=tango_upper(lost, gained, n),
        lost=lost,
        gained=gained,
        n=n,
        verdict=worst(each.verdict for each in (*top1, *others)),
        needed=top1[0].needed if top1 else None,
        gates=[*top1, *others],
    )


def paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    """Whether each image is right with the baseline and with the candidate -> the counts."""
    return Paired(int(np.sum(before & ~after)), int(np.sum(~before & after)), len(before))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; "inconclusive" for none, because nothing was shown."""
    return max(verdicts, key=BEST_TO_WORST.index, default="inconclusive")


def exit_code(verdict: Verdict, strict: bool, missing_requested: bool) -> int:
    """1 if the gate failed; otherwise 3 if a target that was requested by name cannot be built; otherwise 0."""
    if verdict == "fail" or (strict and verdict == "inconclusive"):
        return 1
    return 3 if missing_requested else 0
