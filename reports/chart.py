"""Throughput over batch sizes for the templates: one chart per target, one table for all engines."""

import math

from measure.verdict import Part
from reports import numbers
from reports.schema import Row, Throughput


class Tick(Part):
    """A label on an axis; `at` is its place in percent of the axis, from the left or from the top."""

    at: float
    text: str


class Dot(Part):
    """A measured point, in percent of the plot from its top left; `limit`: it is the largest batch within the limit."""

    x: float
    y: float
    text: str
    limit: bool


class Line(Part):
    """The curve of one engine; `points` for a polyline in a box of 100 x 100."""

    engine: str
    kind: str
    points: str
    dots: list[Dot]
    best: Throughput


class Chart(Part):
    """Images per second by batch size, on a logarithmic axis; the engines of one target."""

    target: str
    columns: list[Tick]
    grid: list[Tick]
    lines: list[Line]
    limit_ms: float | None


class Speeds(Part):
    """The table: for every engine with a throughput its points at all of `batches`; None: not measured at this batch."""

    batches: list[int]
    rows: list[Row]
    points: list[list[Throughput | None]]
    limit_ms: float | None


def speeds(rows: list[Row]) -> Speeds:
    timed = [row for row in rows if row.throughput]
    batches = sorted({point.batch for row in timed for point in row.throughput})
    found = [{point.batch: point for point in row.throughput} for row in timed]
    return Speeds(
        batches=batches,
        rows=timed,
        points=[[points.get(batch) for batch in batches] for points in found],
        limit_ms=limit_of(timed),
    )


def limit_of(rows: list[Row]) -> float | None:
    """The latency limit, if an engine meets it."""
    return next((row.batch_at_limit.limit_ms for row in rows if row.batch_at_limit), None)


def charts(rows: list[Row]) -> list[Chart]:
    """One for every target with at least two batch sizes, in the order of `rows`."""
    timed = [row for row in rows if row.throughput]
    found = [chart([row for row in timed if row.on == target]) for target in dict.fromkeys(row.on for row in timed)]
    return [drawn for drawn in found if len(drawn.columns) > 1]


def chart(rows: list[Row]) -> Chart:
    batches = sorted({point.batch for row in rows for point in row.throughput})
    values = grid(max(point.images_per_s for row in rows for point in row.throughput))
    low, high, top = math.log2(batches[0]), math.log2(batches[-1]), values[-1]

    def across(batch: int) -> float:
        return 100 * (math.log2(batch) - low) / ((high - low) or 1)

    def down(images_per_s: float) -> float:
        return 100 - 100 * images_per_s / top

    def line(row: Row) -> Line:
        limit = row.batch_at_limit and row.batch_at_limit.batch
        dots = [
            Dot(x=across(p.batch), y=down(p.images_per_s), text=title(row, p), limit=p.batch == limit) for p in row.throughput
        ]
        return Line(
            engine=row.name.key,
            kind=row.kind,
            points=" ".join(f"{dot.x:.2f},{dot.y:.2f}" for dot in dots),
            dots=dots,
            best=max(row.throughput, key=lambda point: point.images_per_s),
        )

    return Chart(
        target=rows[0].on,
        columns=[Tick(at=across(batch), text=str(batch)) for batch in batches],
        grid=[Tick(at=down(value), text=f"{value:,g}") for value in values],
        lines=[line(row) for row in rows],
        limit_ms=limit_of(rows),
    )


def rate(images_per_s: float) -> str:
    return numbers.fixed(images_per_s, 0 if images_per_s >= 10 else 1)


def title(row: Row, point: Throughput) -> str:
    text = f"{row.id}, batch {point.batch}: {rate(point.images_per_s)} images/s"
    if point.n is None:  # runs of earlier versions did not record it
        return text
    return f"{text}, {numbers.milliseconds(point.ms)} a call (p90 {numbers.milliseconds(point.p90_ms)}, n={point.n})"


def grid(largest: float) -> list[float]:
    """Round values from 0 to `largest` or just above, three to six of them."""
    step = step_of(largest)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def step_of(span: float) -> float:
    """The smallest round number such that four or fewer of them add up to `span`."""
    rough = max(span, 1e-9) / 4
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
