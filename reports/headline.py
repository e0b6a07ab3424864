"""The engine at the top of the report, and the verdict on it in words that need no knowledge of the field."""

from core.text import joined
from measure.verdict import Part
from reports import numbers
from reports.schema import Report, Row
from reports.speed import ALIKE, UNSAID


class Headline(Part):
    """The engine at the top of the report and the baseline on the same target; `smaller` is None if a size is unknown."""

    row: Row
    baseline: Row | None
    smaller: float | None


class Words(Part):
    """The verdict in one short sentence, and what it rests on."""

    verdict: str
    because: str


def headline(report: Report) -> Headline | None:
    """The best candidate: first by measured, then by ships, then by target onnxruntime."""
    judged, rows = {entry.id for entry in report.gate.rows}, report.rows
    candidates = [row for row in rows if row.id in judged or row.status in ("prepared", "unavailable")]
    if not candidates:
        return None
    row = min(candidates, key=lambda row: (row.status != "measured", not row.ships, row.on != "onnxruntime"))
    baseline = next((other for other in rows if other.id == f"baseline-fp32/{row.on}"), None)
    sizes = baseline and baseline.size_bytes, row.size_bytes
    return Headline(row=row, baseline=baseline, smaller=sizes[0] / sizes[1] if sizes[0] and sizes[1] else None)


def in_words(report: Report, opening: Headline | None, as_fast: str) -> Words:
    """`as_fast` is what may be said about the speed of the engine (reports/speed.py)."""
    verdicts = {entry.verdict for entry in report.gate.rows}
    if opening is None or opening.row.drop is None:
        prepared = opening is not None and opening.row.status == "prepared"
        return Words(
            verdict="Not measured yet: the device has to build it." if prepared else "Not measured: there is no verdict.",
            because=(opening.row.reason if opening else None) or "No engine could be measured here.",
        )
    sentence = {
        "pass": "Ready to ship: it loses less than the limit allows.",
        "inconclusive": "Not decided: these images do not show that it is good enough.",
        "fail": "Do not ship: it loses more than the limit allows.",
    }[report.gate.verdict]
    if report.gate.verdict == "fail" and "pass" in verdicts:
        sentence = "Not all can ship: on one target it loses more than the limit allows."
    return Words(verdict=sentence, because=" ".join(filter(None, [gains(opening, as_fast), loss(report, opening.row)])))


def gains(opening: Headline, as_fast: str) -> str | None:
    """How much smaller and faster it is."""
    smaller = opening.smaller and (
        f"{numbers.times(opening.smaller)} smaller" if opening.smaller >= 1 else f"{numbers.times(1 / opening.smaller)} larger"
    )
    fast = as_fast if as_fast == ALIKE else f"{as_fast} as fast"
    said = [smaller, None if as_fast in (numbers.DASH, UNSAID) else fast]
    found = [words for words in said if words]
    return f"Against the original network it is {joined(found)}." if found else None


def loss(report: Report, row: Row) -> str:
    drop = row.drop
    assert drop is not None
    if report.gate.metric == "agreement":
        return (
            f"For {drop.lost:,} of {drop.n:,} images ({numbers.fixed(drop.points)} %) its result is not that of the original; "
            f"with 95 % confidence for at most {numbers.fixed(drop.upper_95)} %{limit_text(report)}. "
            "The images have no labels: which of the two is right is not known."
        )
    direction = "fewer" if drop.points >= 0 else "more"
    return (
        f"Of every 100 images it gets {numbers.fixed(abs(drop.points))} {direction} right than the original; "
        f"with 95 % confidence it loses {at_most(drop.upper_95)}{limit_text(report)}. Measured on {drop.n:,} images."
    )


def at_most(upper: float) -> str:
    return f"at most {numbers.fixed(upper)}" if upper >= 0 else f"none and gains at least {numbers.fixed(-upper)}"


def limit_text(report: Report) -> str:
    limit = report.gate.max_drop
    return "" if limit is None else f"; the limit is {limit:g}"
