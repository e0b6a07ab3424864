"""The latencies of all queries of an engine -> a box per engine; the engines of a target share an axis."""

from measure.verdict import Part
from reports.axis import Axis, of_latencies
from reports.schema import Latency, Row


class Box(Part):
    """Places in percent of the axis: `low` to `high` are 5 to 95 % of the queries, `left` to `right` the middle half, `middle`
    is p50 and `tail` is p99. `turns` are the p50 of the turns."""

    row: Row
    latency: Latency
    low: float
    left: float
    middle: float
    right: float
    high: float
    tail: float
    turns: list[float]


class Distributions(Part):
    target: str
    axis: Axis
    boxes: list[Box]


def distributions(rows: list[Row]) -> list[Distributions]:
    """One for every target with engines of which the distribution is known; runs of earlier versions recorded none."""
    timed = [(row, row.latency_ms) for row in rows if row.latency_ms and row.latency_ms.quantiles]
    targets = dict.fromkeys(row.on for row, _ in timed)
    return [of_target(target, [(row, latency) for row, latency in timed if row.on == target]) for target in targets]


def of_target(target: str, timed: list[tuple[Row, Latency]]) -> Distributions:
    axis = of_latencies([value for _, latency in timed for value in (*latency.quantiles, *latency.turns, latency.p99)])
    boxes = []
    for row, latency in timed:
        low, left, middle, right, high = (axis.at(value) for value in latency.quantiles)
        turns = [axis.at(turn) for turn in latency.turns]
        boxes.append(
            Box(row=row, latency=latency, low=low, left=left, middle=middle, right=right, high=high,
                tail=axis.at(latency.p99), turns=turns)
        )  # fmt: skip
    return Distributions(target=target, axis=axis, boxes=boxes)
