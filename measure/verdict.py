"""What a verdict is made of: accuracy, agreement, the drop against the baseline. These are parts of report.json, too."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["pass", "fail", "inconclusive"]


class Part(BaseModel):
    """Base of all parts of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Accuracy(Part):
    """Of the engine itself, in percent."""

    top1: float
    top5: float
    correct: int
    n: int


class Agreement(Part):
    """How often an engine gives the baseline's answer to unlabelled images; says nothing about how often both are wrong."""

    percent: float
    agreeing: int
    n: int


class Drop(Part):
    """Against the baseline on the same images; `points` are percentage points of the gate's metric, positive when worse.

    Where the metric is agreement, `lost` counts the images with another answer than the baseline's and `gained` is 0.
    `relative_percent` is None when the baseline gets nothing right or nobody knows; `needed` is the number of images that
    would settle an inconclusive verdict at the same rates, where there is one.
    """

    points: float
    relative_percent: float | None
    upper_95: float
    lost: int
    gained: int
    n: int
    verdict: Verdict
    needed: int | None = None
