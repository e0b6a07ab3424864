"""Engines as points of latency and accuracy -> the dots, labels, axes and front that templates/scatter.html.j2 draws.

Lengths are units of the drawing, which is WIDTH x HEIGHT; positions are measured from its top left.
"""

import math
from collections.abc import Sequence
from typing import Literal

from measure.verdict import Part
from reports.chart import step_of
from reports.front import front

Kind = Literal["baseline", "pass", "fail", "unmeasured"]
Anchor = Literal["start", "middle", "end"]
Box = tuple[float, float, float, float]  # left, top, right, bottom

WIDTH, HEIGHT = 960, 420
PLOT: Box = (64, 16, 936, 366)
LETTER, LINE = 6.6, 14.0  # of the labels; letters are at most about this wide
# Possible positions of a label relative to its dot. The first ones are not crossed by a line that rises to the right.
PLACES: tuple[tuple[Anchor, float, float], ...] = (
    ("start", 6, 16), ("end", -6, -8), ("start", 9, 4), ("end", -9, 4),
    ("middle", 0, -10), ("middle", 0, 19), ("start", 6, -8), ("end", -6, 16),
)  # fmt: skip
LOGARITHMIC = 10  # the x axis is logarithmic if largest / smallest is above this


class Point(Part):
    """An engine: p50 in ms, top-1 in percent; None: not measured.

    `kind`: a baseline, an engine that the gate lets ship ("pass") or not ("fail"), or one without a verdict.
    """

    label: str
    x: float | None
    y: float | None
    kind: Kind


class Mark(Part):
    """A round value on an axis; `at` is its x or y."""

    at: float
    text: str


class Dot(Part):
    """A drawn point; the label starts, or for `anchor` "end" ends, at (`label_x`, `label_y`).

    `anchor` is None if no label fits without covering another; the title that the pointer shows is always there.
    """

    kind: Kind
    x: float
    y: float
    label: str
    title: str
    anchor: Anchor | None
    label_x: float = 0.0
    label_y: float = 0.0
    on_front: bool


class Scatter(Part):
    """`line`: the front as the points of a polyline; `missing`: labels of the points without a coordinate, not drawn."""

    width: int = WIDTH
    height: int = HEIGHT
    plot: Box = PLOT
    columns: list[Mark]
    rows: list[Mark]
    dots: list[Dot]
    line: str
    logarithmic: bool
    missing: list[str]


def best(points: Sequence[Point]) -> list[int]:
    """Indices of the points on the front, quickest first. Only engines that may ship can be on it."""
    passing = [(i, p.x, p.y) for i, p in enumerate(points) if p.kind == "pass" and p.x is not None and p.y is not None]
    return [passing[i][0] for i in front([(x, y) for _, x, y in passing])]


def scatter(points: Sequence[Point]) -> Scatter:
    """The drawing of `points`; the x axis is logarithmic if the slowest takes more than 10 times as long as the quickest."""
    placed = [(i, p, p.x, p.y) for i, p in enumerate(points) if p.x is not None and p.y is not None]
    missing = [p.label for p in points if p.x is None or p.y is None]
    if not placed:
        return Scatter(columns=[], rows=[], dots=[], line="", logarithmic=False, missing=missing)
    xs, ys = [x for *_, x, _ in placed], [y for *_, y in placed]
    logarithmic = min(xs) > 0 and max(xs) / min(xs) > LOGARITHMIC
    across, down = (decades(min(xs), max(xs)) if logarithmic else rounds(0, max(xs))), rounds(min(ys), max(ys))
    left, top, right, bottom = PLOT

    def at_x(value: float) -> float:
        share = math.log(value / across[0]) / math.log(across[-1] / across[0]) if logarithmic else value / across[-1]
        return round(left + (right - left) * share, 2)

    def at_y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - down[0]) / (down[-1] - down[0]), 2)

    chosen = best(points)
    found = {i: (at_x(x), at_y(y)) for i, _, x, y in placed}
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in found.values()]
    dots = {}
    for i, point, x, y in sorted(placed, key=lambda entry: entry[0] not in chosen):  # the front's labels have first choice
        anchor, label_x, label_y = place(point.label, *found[i], taken)
        dots[i] = Dot(
            kind=point.kind, x=found[i][0], y=found[i][1], label=point.label, title=f"{point.label}: {x:.3g} ms, {y:.2f} %",
            anchor=anchor, label_x=label_x, label_y=label_y, on_front=i in chosen,
        )  # fmt: skip
    return Scatter(
        columns=[Mark(at=at_x(value), text=f"{value:,g}") for value in across],
        rows=[Mark(at=at_y(value), text=f"{value:,g}") for value in down],
        dots=[dots[i] for i in sorted(dots)],
        line=" ".join(f"{found[i][0]:.2f},{found[i][1]:.2f}" for i in chosen),
        logarithmic=logarithmic,
        missing=missing,
    )


def place(label: str, x: float, y: float, taken: list[Box]) -> tuple[Anchor | None, float, float]:
    """Anchor and position of the label of the dot at (x, y), such that it covers none of `taken`; its box is added there."""
    wide = LETTER * len(label)
    for anchor, dx, dy in PLACES:
        start = x + dx - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        box = (start, y + dy - LINE + 4, start + wide, y + dy + 3)
        inside = PLOT[0] <= box[0] and box[2] <= WIDTH and box[1] >= 0 and box[3] <= PLOT[3]
        if inside and not any(meet(box, other) for other in taken):
            taken.append(box)
            return anchor, round(x + dx, 2), round(y + dy, 2)
    return None, 0.0, 0.0


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def rounds(low: float, high: float) -> list[float]:
    """Round values, evenly spaced, from `low` or just below to `high` or just above: two to six of them."""
    step = step_of(max(high - low, 0.1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 9) for i in range(first - (first == last), last + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … times a power of ten, from the last not above `low` (> 0) to the first not below `high`."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    values = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first = max(i for i, value in enumerate(values) if value <= low)
    last = min(i for i, value in enumerate(values) if value >= high)
    return values[first : last + 1]
