"""What a verdict is made of: accuracy, agreement, the drop against the baseline. These are parts of report.json, too."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "inconclusive"]
ClassVerdict = Literal["pass", "fail", "suspicious"]


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


class ClassLoss(Part):
    """What a candidate lost of one class (`label`, its name); percentages are of the `n` images of the class.

    lower_95   one-sided 95 % lower limit of the points lost, not corrected for the number of classes
    p          of "it lost at most the gate's limit for a class", Holm-corrected over the classes; None without a limit
    verdict    "fail" where p < 0.05; "suspicious" where only `lower_95` is above the limit, or a class of few images is lost
    """

    label: str
    n: int
    baseline_top1: float
    top1: float
    points: float
    lost: int
    gained: int
    lower_95: float | None = None
    p: float | None = None
    verdict: ClassVerdict = "pass"


class Drop(Part):
    """Against the baseline on the same images; `points` are percentage points of the gate's metric, positive when worse.

    Where the metric is agreement, `lost` counts the images with another answer than the baseline's and `gained` is 0.
    `relative_percent` is None when the baseline gets nothing right or nobody knows; `needed` is the number of images that
    would settle an inconclusive verdict at the same rates, where there is one. `classes` are those that lost too much, or
    that is suspected of: the verdict is "fail" where one of them failed.
    """

    points: float
    relative_percent: float | None
    upper_95: float
    lost: int
    gained: int
    n: int
    verdict: Verdict
    needed: int | None = None
    classes: list[ClassLoss] = Field(default_factory=list)

    @property
    def failed_classes(self) -> list[ClassLoss]:
        return [entry for entry in self.classes if entry.verdict == "fail"]
