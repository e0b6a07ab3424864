"""The losses of the classes, ranked by what chance does not explain.

If an engine is as good as the baseline, an image that only one of the two gets right is lost or gained with equal chance. The
p-value is the probability of at least so unequal counts (exact McNemar test, two-sided), corrected for the number of classes.
"""

from collections.abc import Sequence

from measure.statistics import holm
from measure.verdict import Part
from reports.axis import Axis, linear
from reports.changed import ClassDrop

SIGNIFICANT = 0.05
MOST = 20  # classes in the report; report.json has all


class Ranked(Part):
    """A class with its p-value, corrected for the number of classes; the places of its loss and limits on the axis."""

    entry: ClassDrop
    p: float
    at: float
    low: float
    high: float

    @property
    def explained(self) -> bool:
        """Whether chance explains the change."""
        return self.p >= SIGNIFICANT


class PerClass(Part):
    """`more` other classes lost at most `at_most` points each. `zero`: where nothing is lost, in percent of the axis."""

    classes: list[Ranked]
    more: int
    at_most: float | None
    axis: Axis
    zero: float


def per_class_figure(classes: Sequence[ClassDrop]) -> PerClass | None:
    """First those that failed, then losses from the least to the most probable by chance, then gains. None without classes."""
    if not classes:
        return None
    single = [unequal(entry.lost, entry.gained) for entry in classes]
    corrected = holm(single)

    def place(i: int) -> tuple[bool, float, float, int]:
        """What is significant, but small, comes before what is large and may be chance."""
        entry = classes[i]
        surprise = (1 - single[i]) * (1 if entry.lost > entry.gained else -1)
        return entry.verdict != "fail", -surprise, -entry.points, -entry.lost

    order = sorted(range(len(classes)), key=place)
    shown, others = order[:MOST], order[MOST:]
    limits = [limits_of(classes[i]) for i in shown]
    axis = linear([0.0, *(value for both in limits for value in both)])
    return PerClass(
        classes=[
            Ranked(entry=classes[i], p=corrected[i], at=axis.at(classes[i].points), low=axis.at(low), high=axis.at(high))
            for i, (low, high) in zip(shown, limits, strict=True)
        ],
        more=len(others),
        at_most=max((classes[i].points for i in others), default=None),
        axis=axis,
        zero=axis.at(0.0),
    )


def limits_of(entry: ClassDrop) -> tuple[float, float]:
    """Its one-sided 95 % limits; the loss itself for runs of earlier versions, which recorded no limits."""
    low, high = entry.lower_95, entry.upper_95
    return entry.points if low is None else low, entry.points if high is None else high


def unequal(lost: int, gained: int) -> float:
    """The probability of at least so unequal counts if an image is lost or gained with equal chance."""
    from scipy.stats import binomtest  # type: ignore[import-untyped, unused-ignore]

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
