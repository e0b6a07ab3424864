"""The networks that the search tried, each with the engines of it that were judged on other images than it was chosen on."""

from measure.statistics import tango_interval
from measure.verdict import Part
from reports.axis import Axis, linear
from reports.level import Level
from reports.schema import Report, Row


class Tried(Part):
    """A level; the places of its drop and of the 95 % limits on the axis; the rows of its judged engines."""

    level: Level
    at: float
    low: float
    high: float
    judged: list[Row]


class LevelsFigure(Part):
    """`zero`: where nothing is lost, in percent of the axis."""

    levels: list[Tried]
    axis: Axis
    zero: float


def levels_figure(report: Report) -> LevelsFigure | None:
    """None if there was no search over levels."""
    if not report.levels:
        return None
    limits = [tango_interval(level.drop.lost, level.drop.gained, level.drop.n) for level in report.levels]
    axis = linear([0.0, *(value for both in limits for value in both)])
    return LevelsFigure(
        levels=[
            Tried(
                level=level,
                at=axis.at(level.drop.points),
                low=axis.at(low),
                high=axis.at(high),
                judged=[row for row in report.rows if row.variant == level.name and row.drop],
            )
            for level, (low, high) in zip(report.levels, limits, strict=True)
        ],
        axis=axis,
        zero=axis.at(0.0),
    )
