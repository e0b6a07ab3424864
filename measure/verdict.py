"""The parts of a verdict: accuracy, agreement, the drop against the baseline. They are also parts of report.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "inconclusive"]
ClassVerdict = Literal["pass", "fail", "suspicious"]


class Part(BaseModel):
    """Base of all parts of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Accuracy(Part):
    """The accuracy of the engine itself, in percent."""

    top1: float
    top5: float
    correct: int
    n: int


class Agreement(Part):
    """How often an engine predicts the same class as the baseline on unlabelled images; both may be wrong."""

    percent: float
    agreeing: int
    n: int


class ClassLoss(Part):
    """The loss of a candidate in one class (`label`, its name); percentages are of the `n` images of the class.

    lower_95   one-sided 95 % lower limit of the points lost, not corrected for the number of classes
    p          of "it lost at most the gate's limit for a class", Holm-corrected over the classes; None without a limit
    verdict    "fail" if p < 0.05; "suspicious" if only `lower_95` is above the limit or no image of the class is right any more
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
    """The drop against the baseline on the same images, in percentage points of the gate's metric; positive when worse.

    If the metric is agreement, `lost` counts the images whose predicted class differs from the baseline's and `gained` is 0.
    `relative_percent` is None if the baseline gets no image right. `needed` is the number of images that would make an
    inconclusive verdict a pass at the same rates, if there is one. `classes` are the failed and the suspicious classes; if
    one of them failed, the verdict is "fail".
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
