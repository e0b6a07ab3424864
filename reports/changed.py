"""The parts of report.json on what a candidate changed: classes, pairs of classes, images."""

from measure.verdict import ClassLoss, Part


class ClassDrop(ClassLoss):
    """The loss of a candidate (`row`) in one class."""

    row: str


class Confusion(Part):
    """How many test images of the class `label` are taken for the class `predicted`: `before` by the baseline, `after` by the
    candidate (`row`); only pairs for which the two differ."""

    row: str
    label: str
    predicted: str
    before: int
    after: int


class LostImage(Part):
    """A test image that the baseline gets right and the candidate wrong, or of the gained ones the reverse; if unlabelled
    (`label` None), one for which the two predict different classes.

    `index` is its position in the test split. `label`, `baseline_answer` and `answer` (both predictions) are names of classes.
    """

    row: str
    index: int
    name: str
    label: str | None
    baseline_answer: str
    answer: str
