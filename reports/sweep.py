"""A sweep's engines -> which of them no other beats, drawn and told.

Candidates are rows of students in the precisions that could ship: FP32 of a student is only there to compare with.
"""

from collections.abc import Iterator

from measure.verdict import Part
from reports.scatter import Point, Scatter, best, scatter
from reports.schema import GateResult, Row


class Trade(Part):
    """The engines of a target by latency and accuracy."""

    target: str
    drawn: Scatter


def candidates(rows: list[Row], target: str) -> list[Row]:
    return [row for row in rows if row.target == target and row.variant and row.precision != "fp32"]


def targets(rows: list[Row]) -> list[str]:
    """Those with candidates of a sweep, in the order of `rows`."""
    return list(dict.fromkeys(row.target for row in rows if row.variant and row.precision != "fp32"))


def point(row: Row) -> Point:
    kept_back = row.drop is not None and row.drop.verdict == "fail"
    return Point(
        label=row.name.key.removeprefix("student-"),
        x=row.latency_ms.p50 if row.latency_ms else None,
        y=row.accuracy.top1 if row.accuracy else row.agreement.percent if row.agreement else None,
        kind="baseline" if row.network == "baseline" else "fail" if kept_back else "pass" if row.drop else "unmeasured",
    )


def with_front(rows: list[Row]) -> list[Row]:
    """`rows` with `front` set where they are candidates of a sweep that no other one beats."""
    chosen = set()
    for target in targets(rows):
        rivals = candidates(rows, target)
        chosen |= {rivals[i].id for i in best([point(row) for row in rivals])}
    return [row.model_copy(update={"front": True}) if row.id in chosen else row for row in rows]


def trades(rows: list[Row]) -> list[Trade]:
    found = []
    for target in targets(rows):
        shown = [row for row in rows if row.target == target and row.network == "baseline"] + candidates(rows, target)
        points = [point(row) for row in shown]
        if sum(one.x is not None and one.y is not None for one in points) > 1:
            found.append(Trade(target=target, drawn=scatter(points)))
    return found


def sweep_notes(rows: list[Row], gate: GateResult) -> Iterator[str]:
    for target in targets(rows):
        tried = candidates(rows, target)
        judged = [row for row in tried if row.drop]
        passing = [row for row in judged if row.drop and row.drop.verdict != "fail"]
        if not judged:
            yield f"SWEEP on {target}: none of the {len(tried)} engines could be asked here."
            continue
        ships = next((row.name.key for row in tried if row.ships), None)
        choice = f"{ships} ships, the quickest of them" if ships else "none ships"
        edge = ", ".join(row.name.key for row in tried if row.front)
        yield (
            f"SWEEP on {target}: {len(passing)} of {len(judged)} engines do not miss the gate of {gate.max_drop:g} points; "
            f"{choice}. "
            + (f"Nothing is both quicker and more accurate than {edge}. " if edge else "")
            + "All were judged on the same images, so the best of many is flattered by chance a little."
        )
