"""The engines of a sweep -> the front (engines that no other beats), drawn and as notes.

Candidates are rows of students in the precisions that could ship. A student in FP32 is only for comparison.
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
    """The targets with candidates of a sweep, in the order of `rows`."""
    return list(dict.fromkeys(row.target for row in rows if row.variant and row.precision != "fp32"))


def point(row: Row) -> Point:
    failed = row.drop is not None and row.drop.verdict == "fail"
    return Point(
        label=row.name.key.removeprefix("student-"),
        x=row.latency_ms.p50 if row.latency_ms else None,
        y=row.accuracy.top1 if row.accuracy else row.agreement.percent if row.agreement else None,
        kind="baseline" if row.network == "baseline" else "fail" if failed else "pass" if row.drop else "unmeasured",
    )


def with_front(rows: list[Row]) -> list[Row]:
    """`rows`, with `front` set for the candidates of a sweep that no other candidate beats."""
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
            yield f"SWEEP on {target}: none of the {len(tried)} engines could be evaluated here."
            continue
        ships = next((row.name.key for row in tried if row.ships), None)
        choice = f"{ships} ships, the quickest of them" if ships else "none ships"
        edge = ", ".join(row.name.key for row in tried if row.front)
        yield (
            f"SWEEP on {target}: {len(passing)} of {len(judged)} engines do not fail the gate of {gate.max_drop:g} points; "
            f"{choice}. "
            + (f"No engine is both quicker and more accurate than {edge}. " if edge else "")
            + "All were measured on the same images, so the accuracy of the best one is slightly too high by chance."
        )
