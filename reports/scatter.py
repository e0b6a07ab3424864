"""Engines as points of latency and accuracy -> the dots, labels, axes and front that templates/scatter.html.j2 draws.

Lengths are units of the drawing; positions are measured from its top left. Labels do not shrink with the page, so there is a
drawing for wide pages and one for phones, each with the labels that fit.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from measure.verdict import Part
from reports.axis import linear, of_latencies
from reports.front import front

Kind = Literal["baseline", "pass", "fail", "unmeasured"]
Anchor = Literal["start", "middle", "end"]
Range = tuple[float, float]  # from, to
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Size(NamedTuple):
    """Of a drawing; `plot` is the place between its axes."""

    width: int
    height: int
    plot: Box


WIDE = Size(960, 420, (64, 16, 936, 366))
PHONE = Size(350, 380, (62, 12, 338, 326))
LETTER, LINE = 6.6, 14.0  # of the labels; letters are at most about this wide
# Possible positions of a label relative to its dot. The first ones are not crossed by a line that rises to the right.
PLACES: tuple[tuple[Anchor, float, float], ...] = (
    ("start", 6, 16), ("end", -6, -8), ("start", 9, 4), ("end", -9, 4),
    ("middle", 0, -10), ("middle", 0, 19), ("start", 6, -8), ("end", -6, 16),
)  # fmt: skip


class Point(Part):
    """An engine: p50 in ms, top-1 in percent; None: not measured. `x_range` and `y_range` are their intervals, if known.

    `kind`: a baseline, an engine that the gate lets ship ("pass") or not ("fail"), or one without a verdict.
    """

    label: str
    x: float | None
    y: float | None
    kind: Kind
    x_range: Range | None = None
    y_range: Range | None = None


class Mark(Part):
    """A round value on an axis; `at` is its x or y."""

    at: float
    text: str


class Dot(Part):
    """A drawn point; the label starts, or for `anchor` "end" ends, at (`label_x`, `label_y`).

    `anchor` is None if no label fits without covering another; the title that the pointer shows is always there. `across` and
    `down` are the ends of its intervals.
    """

    kind: Kind
    x: float
    y: float
    label: str
    title: str
    anchor: Anchor | None
    label_x: float = 0.0
    label_y: float = 0.0
    across: Range | None
    down: Range | None
    on_front: bool


class Scatter(Part):
    """`line`: the front as the points of a polyline; `missing`: labels of the points without a coordinate, not drawn."""

    size: Size
    columns: list[Mark]
    rows: list[Mark]
    dots: list[Dot]
    line: str
    logarithmic: bool
    missing: list[str]


class Drawn(Part):
    """The same points for wide pages and for phones."""

    wide: Scatter
    phone: Scatter


def drawn(points: Sequence[Point]) -> Drawn:
    return Drawn(wide=scatter(points), phone=scatter(points, PHONE))


def best(points: Sequence[Point]) -> list[int]:
    """Indices of the points on the front, quickest first. Only engines that may ship can be on it."""
    passing = [(i, p.x, p.y) for i, p in enumerate(points) if p.kind == "pass" and p.x is not None and p.y is not None]
    return [passing[i][0] for i in front([(x, y) for _, x, y in passing])]


def scatter(points: Sequence[Point], size: Size = WIDE) -> Scatter:
    """The drawing of `points`; the x axis is logarithmic if the slowest takes more than 10 times as long as the quickest."""
    placed = [(i, p, p.x, p.y) for i, p in enumerate(points) if p.x is not None and p.y is not None]
    missing = [p.label for p in points if p.x is None or p.y is None]
    if not placed:
        return Scatter(size=size, columns=[], rows=[], dots=[], line="", logarithmic=False, missing=missing)
    across = of_latencies([x for _, point, x, _ in placed for x in (x, *(point.x_range or ()))])
    down = linear([y for _, point, _, y in placed for y in (y, *(point.y_range or ()))])
    left, top, right, bottom = size.plot

    def at_x(value: float) -> float:
        return round(left + (right - left) * across.at(value) / 100, 2)

    def at_y(value: float) -> float:
        return round(bottom - (bottom - top) * down.at(value) / 100, 2)

    chosen = best(points)
    found = {i: (at_x(x), at_y(y)) for i, _, x, y in placed}
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in found.values()]
    dots = {}
    for i, point, x, y in sorted(placed, key=lambda entry: entry[0] not in chosen):  # the front's labels have first choice
        anchor, label_x, label_y = place(point.label, *found[i], taken, size)
        dots[i] = Dot(
            kind=point.kind, x=found[i][0], y=found[i][1], label=point.label, title=title(point, x, y), anchor=anchor,
            label_x=label_x, label_y=label_y, on_front=i in chosen,
            across=(at_x(point.x_range[0]), at_x(point.x_range[1])) if point.x_range else None,
            down=(at_y(point.y_range[0]), at_y(point.y_range[1])) if point.y_range else None,
        )  # fmt: skip
    return Scatter(
        size=size,
        columns=[Mark(at=at_x(value), text=f"{value:,g}") for value in across.values],
        rows=[Mark(at=at_y(value), text=f"{value:,g}") for value in down.values],
        dots=[dots[i] for i in sorted(dots)],
        line=" ".join(f"{found[i][0]:.2f},{found[i][1]:.2f}" for i in chosen),
        logarithmic=across.logarithmic,
        missing=missing,
    )


def title(point: Point, x: float, y: float) -> str:
    between_x = f" ({point.x_range[0]:.3g} to {point.x_range[1]:.3g})" if point.x_range else ""
    between_y = f" ({point.y_range[0]:.2f} to {point.y_range[1]:.2f})" if point.y_range else ""
    return f"{point.label}: {x:.3g} ms{between_x}, {y:.2f} %{between_y}"


def place(label: str, x: float, y: float, taken: list[Box], size: Size = WIDE) -> tuple[Anchor | None, float, float]:
    """Anchor and position of the label of the dot at (x, y), such that it covers none of `taken`; its box is added there."""
    wide = LETTER * len(label)
    for anchor, dx, dy in PLACES:
        start = x + dx - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        box = (start, y + dy - LINE + 4, start + wide, y + dy + 3)
        inside = size.plot[0] <= box[0] and box[2] <= size.width and box[1] >= 0 and box[3] <= size.plot[3]
        if inside and not any(meet(box, other) for other in taken):
            taken.append(box)
            return anchor, round(x + dx, 2), round(y + dy, 2)
    return None, 0.0, 0.0


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
