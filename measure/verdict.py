"""The parts of a verdict: accuracy, agreement, the drop against the baseline. They are also parts of report.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "inconclusive"]
ClassVerdict = Literal["pass", "fail", "suspicious"]
Doubt = Literal["one_class", "chance", "constant", "far_better"]


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
    upper_95   one-sided 95 % upper limit likewise; None in earlier versions
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
    upper_95: float | None = None
    p: float | None = None
    verdict: ClassVerdict = "pass"


class GateLoss(Part):
    """The loss of a candidate against one limit of GATE (measure/limits.py), in percentage points.

    name       the gate as in GATE: "top1", "recall:crack", "worst_class", "balanced"
    label      the class that the figures are of, for recall and worst_class
    lower_95   one-sided 95 % limits of `points`; for worst_class, `lower_95` is of the worst class, corrected for their number
    least_95   `upper_95` of an engine that predicts exactly like the baseline; if it is not below `limit`, none can pass
    needed     the number of images (of the class `label`, if there is one) that would make an inconclusive verdict a pass at
               the same rates, if there is one
    too_few    the images are too few to tell: it does not pass and is not surely above the limit, and no engine could pass that
               differs from the baseline on as many images
    """

    name: str
    label: str | None = None
    limit: float
    points: float
    lower_95: float
    upper_95: float
    least_95: float
    n: int
    verdict: Verdict
    needed: int | None = None
    too_few: bool = False


class Drop(Part):
    """The drop of top-1 against the baseline on the same images, in percentage points; positive when worse.

    If the images have no labels, it is the drop of agreement: `lost` counts the images whose predicted class differs from the
    baseline's, and `gained` is 0. `relative_percent` is None if the baseline gets no image right. `gates` are the losses
    against the limits of GATE, which may be without top-1; none in earlier versions. `classes` are the failed and the
    suspicious classes. `verdict` is the worst of all gates; "fail" if a class failed; no "pass" with any of the `doubts`
    (measure/doubts.py). `needed` is the number of images that would make top-1 pass, if it is an inconclusive gate.

    one_class    all images are of one class
    chance       the baseline is no better than a constant prediction or random guessing
    constant     the engine predicts the same class for all images
    far_better   the engine is far better than the baseline
    """

    points: float
    relative_percent: float | None
    upper_95: float
    lost: int
    gained: int
    n: int
    verdict: Verdict
    needed: int | None = None
    gates: list[GateLoss] = Field(default_factory=list)
    classes: list[ClassLoss] = Field(default_factory=list)
    doubts: list[Doubt] = Field(default_factory=list)

    @property
    def failed_classes(self) -> list[ClassLoss]:
        return [entry for entry in self.classes if entry.verdict == "fail"]
