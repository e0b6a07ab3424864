"""A report -> its shortest form, which opens report.md and the model card: a line per target, and the conditions.

report.md has at most 15 lines before its first folded part. So at most `SHOWN` targets have a visible line: those that fail
come first, those without an engine last.
"""

from core.engine_name import EngineName
from measure.statistics import tango_lower
from measure.verdict import Drop, Part
from reports import numbers
from reports.findings import class_text, doubts_text, loss_text, settling
from reports.schema import Environment, Report, Row
from reports.speed import UNSAID, busy_notes, speeds_in_words

SHOWN = 4
FIRST = ("fail", "inconclusive", "pass", "unmeasured", "prepared", "not built")


class Line(Part):
    """A target: its engine that ships if it passes, or the row with the reason why there is none; all values as text.

    `verdict` is the first word of `judged`, which also has the reason of a verdict that is not a pass. `drop` is in points,
    with its one-sided 95 % limits, and `images` their number. `speed` and `size` are ratios to the baseline of the same target.
    """

    row: Row
    verdict: str
    judged: str
    drop: str
    images: str
    speed: str
    size: str


class Summary(Part):
    """`lines` are visible, `folded` are the lines of more targets. `timed`: the conditions of the latencies.

    `busy` is the warning if the machine was busy.
    """

    lines: list[Line]
    folded: list[Line]
    device: str
    timed: str | None
    busy: str | None


def summary_of(report: Report) -> Summary:
    lines = lines_of(report)
    return Summary(
        lines=lines[:SHOWN],
        folded=lines[SHOWN:],
        device=device_of(report.environment),
        timed=timed_text([line.row for line in lines]),
        busy=next(busy_notes(report.rows), None),
    )


def lines_of(report: Report) -> list[Line]:
    """A line per target that has an engine that could ship, or a reason why it has none; the worst verdicts first."""
    targets = dict.fromkeys(row.on for row in report.rows)
    rows = [row for target in targets if (row := candidate(report, target))]
    return sorted((line_of(row, report) for row in rows), key=lambda line: FIRST.index(line.verdict))


def candidate(report: Report, target: str) -> Row | None:
    """The row of the engine that ships if it passes, or the row with the reason why the target has no engine."""
    judged = {entry.id for entry in report.gate.rows}
    rows = [row for row in report.rows if row.on == target]
    without = ("prepared", "unavailable")
    refused = (row for row in rows if row.status in without and row.network == "student" and row.precision != "fp32")
    return next((row for row in rows if row.id in judged), next(refused, None))


def baseline_of(report: Report, target: str) -> Row | None:
    return next((row for row in report.rows if row.id == str(EngineName.baseline(target))), None)


def line_of(row: Row, report: Report) -> Line:
    baseline = baseline_of(report, row.on)
    verdict = verdict_of(row, report)
    why = reason_of(row, report)
    return Line(
        row=row,
        verdict=verdict,
        judged=f"{verdict}: {why}" if why else verdict,
        drop=drop_text(row.drop),
        images=images_text(row),
        speed=speed_text(baseline, row, speeds_in_words(report.rows)[row.id]),
        size=size_text(baseline, row),
    )


def verdict_of(row: Row, report: Report) -> str:
    """The verdict of the gate, "prepared" or "not built"."""
    found = {entry.id: entry.verdict for entry in report.gate.rows}
    return found.get(row.id, "prepared" if row.status == "prepared" else "not built")


def reason_of(row: Row, report: Report) -> str | None:
    """Why the verdict is not a pass, if more is known than the drop of top-1, which stands beside it."""
    if row.drop is None:
        return row.reason
    agreement = report.gate.metric == "agreement"
    failed = [loss_text(each, agreement) for each in row.drop.gates if each.verdict == "fail" and each.name != "top1"]
    if row.drop.failed_classes:
        failed.insert(0, class_text(row.drop.failed_classes, agreement))
    if failed or row.drop.verdict == "fail":
        return "; ".join(failed) or None
    if row.standing != row.drop.verdict:
        return "a milder engine of this target, which was judged before it, does not pass"
    if row.drop.doubts:
        return doubts_text(row.drop)
    return " ".join(settling(each) for each in row.drop.gates if each.verdict == "inconclusive") or None


def images_text(row: Row) -> str:
    if row.agreement:
        found = row.agreement
        return f"{found.n:,} unlabelled: {numbers.fixed(found.percent)} % the same"
    return f"{row.drop.n:,}" if row.drop else numbers.DASH


def drop_text(drop: Drop | None) -> str:
    """The points and the one-sided 95 % limits on both sides; the gate compares the upper one with its limit."""
    if drop is None:
        return numbers.DASH
    lower = tango_lower(drop.lost, drop.gained, drop.n)
    return f"{numbers.signed(drop.points)} [{numbers.signed(lower)}, {numbers.signed(drop.upper_95)}]"


def speed_text(baseline: Row | None, row: Row, words: str) -> str:
    """`words`: how many times as fast it is, and after it the 95 % interval and the p50 (p90)."""
    before, after = baseline.latency_ms if baseline else None, row.latency_ms
    if before is None or after is None:
        return numbers.DASH
    certain = row.speedup_turns if words != UNSAID else None
    interval = f" [{numbers.fixed(certain.low)}, {numbers.fixed(certain.high)}]" if certain else ""
    return (
        f"{words}{interval}: {numbers.fixed(before.p50)} → {numbers.fixed(after.p50)} "
        f"({numbers.fixed(before.p90)} → {numbers.fixed(after.p90)})"
    )


def size_text(baseline: Row | None, row: Row) -> str:
    before = baseline.size_bytes if baseline else None
    if not before or not row.size_bytes:
        return numbers.megabytes(row.size_bytes)
    ratio = numbers.times(before / row.size_bytes)
    return f"{ratio}: {numbers.fixed(before / 1e6)} → {numbers.megabytes(row.size_bytes)}"


def device_of(environment: Environment) -> str:
    isa = numbers.listed(environment.isa) if environment.isa else None
    cores = f"{environment.cores} core{'s' * (environment.cores != 1)}"
    return ", ".join(filter(None, [environment.cpu, cores, isa, environment.gpu or "no GPU", environment.os]))


def timed_text(rows: list[Row]) -> str | None:
    """The conditions of the latencies, and the largest spread of the turns."""
    found = [row.latency_ms for row in rows if row.latency_ms]
    if not found:
        return None
    threads = {latency.threads for latency in found if latency.threads}
    queries = {f"{latency.n:,}" for latency in found}
    with_threads = f", threads: {', '.join(map(str, sorted(threads)))}" if threads else ""
    spreads = [latency.spread for latency in found if latency.spread is not None]
    steady = f" that differ by up to {numbers.percent(max(spreads))}" if spreads else ""
    unwatched = ", the machine was not watched" if any(latency.turns and latency.disturbed is None for latency in found) else ""
    per_engine = f"{' or '.join(sorted(queries))} queries per engine"
    return f"batch {found[0].batch}{with_threads}, {per_engine}, engines in turns{steady}{unwatched}"
