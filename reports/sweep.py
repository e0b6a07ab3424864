"""The engines of a search or a SWEEP -> the front (engines that no other beats), drawn and as notes.

Candidates are rows of students in the precisions that could ship. A student in FP32 is only for comparison. All accuracies here
are those on the images that choose: on the others, only one engine was measured.
"""

from collections.abc import Iterator

from measure.verdict import Part
from reports.run_folder import UNPRUNED
from reports.scatter import Drawn, Point, best, drawn
from reports.schema import ChosenOn, GateResult, Row


class Trade(Part):
    """The engines of a target by latency and accuracy."""

    target: str
    points: list[Point]
    drawn: Drawn


def candidates(rows: list[Row], target: str) -> list[Row]:
    return [row for row in rows if row.on == target and row.variant and row.precision != "fp32"]


def targets(rows: list[Row]) -> list[str]:
    """The targets with candidates of a search or a SWEEP, in the order of `rows`."""
    return list(dict.fromkeys(row.on for row in rows if row.variant and row.precision != "fp32"))


def point(row: Row) -> Point:
    """Its latency with the range of the turns; its accuracy with the 95 % interval of the difference to the baseline."""
    found, latency = row.chosen_on, row.latency_ms
    failed = found is not None and found.verdict == "fail"
    return Point(
        label=row.name.key.removeprefix("student-"),
        x=latency.p50 if latency else None,
        y=score(found),
        x_range=(min(latency.turns), max(latency.turns)) if latency and latency.turns else None,
        y_range=score_range(found),
        kind="baseline" if row.network == "baseline" else "fail" if failed else "pass" if found else "unmeasured",
    )


def score(found: ChosenOn | None) -> float | None:
    """Top-1, or agreement without labels, in percent."""
    return None if found is None else found.agreement if found.top1 is None else found.top1


def score_range(found: ChosenOn | None) -> tuple[float, float] | None:
    """The interval of `score`, where that of the baseline is taken as exact."""
    own = score(found)
    if found is None or own is None or found.drop is None or found.interval is None:
        return None
    low, high = found.interval
    return own + found.drop - high, own + found.drop - low


def with_front(rows: list[Row]) -> list[Row]:
    """`rows`, with `front` set for the candidates that no other candidate beats."""
    chosen = set()
    for target in targets(rows):
        rivals = candidates(rows, target)
        chosen |= {rivals[i].id for i in best([point(row) for row in rivals])}
    return [row.model_copy(update={"front": True}) if row.id in chosen else row for row in rows]


def trades(rows: list[Row]) -> list[Trade]:
    """One for every target with at least two engines of known latency and accuracy, among them the baseline."""
    found = []
    for target in dict.fromkeys(row.on for row in rows):
        shown = [row for row in rows if row.on == target and (row.network == "baseline" or row.precision != "fp32")]
        points = [point(row) for row in shown]
        if sum(one.x is not None and one.y is not None for one in points) > 1:
            found.append(Trade(target=target, points=points, drawn=drawn(points)))
    return found


def searched(rows: list[Row]) -> bool:
    """Whether a search made the students, and not SWEEP: only a search also builds engines of the network as it came."""
    return any(row.variant == UNPRUNED for row in rows)


def sweep_notes(rows: list[Row], gate: GateResult) -> Iterator[str]:
    for target in targets(rows):
        tried = candidates(rows, target)
        measured = [row for row in tried if row.chosen_on]
        summary = search_summary if searched(rows) else sweep_summary
        found = summary(target, tried, measured, gate)
        if not measured:
            yield found
            continue
        ships = next((row for row in rows if row.on == target and row.ships), None)
        edge = ", ".join(row.name.key for row in tried if row.front)
        yield (
            f"{found}; {f'{ships.name.key} ships' if ships else 'none ships'}. "
            + (f"No engine is both quicker and more accurate than {edge}. " if edge else "")
            + "They were compared on the images that choose; the verdict on the engine that ships is of other images."
        )


def sweep_summary(target: str, tried: list[Row], measured: list[Row], gate: GateResult) -> str:
    if not measured:
        return f"SWEEP on {target}: none of the {len(tried)} engines could be evaluated here."
    return (
        f"SWEEP on {target}: {len(measured) - failing(measured)} of {len(measured)} engines do not fail the gate ({gate.text}) "
        "on the images that choose"
    )


def search_summary(target: str, tried: list[Row], measured: list[Row], gate: GateResult) -> str:
    built = f"The search built {len(tried)} engine{'s' * (len(tried) != 1)} for {target}"
    if not measured:
        return f"{built}. None of them could be evaluated here."
    lost = failing(measured)
    return f"{built}. {lost or 'None'} of them lose{'s' * (lost < 2)} more accuracy than the gate allows ({gate.text})"


def failing(measured: list[Row]) -> int:
    """The number of engines that fail on the images that choose."""
    return sum(row.chosen_on is not None and row.chosen_on.verdict == "fail" for row in measured)
