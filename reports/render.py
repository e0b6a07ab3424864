"""A finished run -> report.json, report.md, report.html, junit.xml and benchmark.json, all with the same numbers.

The templates have the text and the layout. This file chooses the headline, scales the charts and writes the files.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from measure.verdict import Part
from reports import numbers
from reports.benchmark import benchmark
from reports.chance import per_class_figure
from reports.chart import charts, rate, speeds
from reports.figures import figures
from reports.findings import class_text
from reports.headline import headline, in_words
from reports.heat import heat
from reports.junit import junit
from reports.rows import collect
from reports.run_folder import RunRecord, read_record
from reports.schema import Report, Row
from reports.speed import speeds_in_words
from reports.summary import summary_of
from reports.sweep import searched, trades

TEMPLATES = Path(__file__).parent / "templates"
EXPLAINED = {
    "recall": "recall: the loss of recall of one class, on its images.",
    "worst_class": "worst_class: the loss of recall of every class. To pass, each has to be shown to be below the limit; the "
    "class with the largest upper limit is shown. To fail, one has to be significantly above it (exact test, Holm-corrected).",
    "balanced": "balanced: the mean over the classes of their losses of recall; its limits combine those of the classes "
    "(MOVER, Zou and Donner 2008).",
}  # what the limits of classes in GATE mean


class Bar(Part):
    """A bar of a chart; `share` of the longest, in percent."""

    label: str
    text: str
    share: float
    kind: str


def render(out: Path) -> Report:
    """Write the five files into `out`; each appears whole or not at all."""
    report = collect(out)
    write(out / "report.json", whole(report))
    write(out / "report.md", text(report, "report.md.j2"))
    write(out / "report.html", html(report, read_record(out)))
    write(out / "junit.xml", junit(report))
    write(out / "benchmark.json", benchmark(report))
    return report


def whole(report: Report) -> str:
    """The content of report.json."""
    return report.model_dump_json(indent=1) + "\n"


def write(path: Path, content: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def environment() -> Environment:
    """The Jinja environment: the folder of the templates, and their filters."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(numbers.FILTERS, rate=rate, only_chosen=only_chosen)
    return found


def html(report: Report, run: RunRecord) -> str:
    """The content of report.html."""
    return text(report, "report.html.j2", **figures(report, headline(report), run))


def text(report: Report, template: str, **more: Any) -> str:
    opening = headline(report)
    agreement = report.gate.metric == "agreement"
    as_fast = speeds_in_words(report.rows)
    scores = [
        (row, row.agreement.percent if row.agreement else row.accuracy.top1 if row.accuracy else None) for row in report.rows
    ]
    failed = opening.row.drop.failed_classes if opening and opening.row.drop else []
    return (
        environment()
        .get_template(template)
        .render(
            report=report,
            headline=opening,
            words=in_words(report, opening, as_fast[opening.row.id] if opening else numbers.DASH),
            conditions_of_headline="".join(conditions([opening.row])) if opening else "",
            summary=summary_of(report),
            sha256=hashlib.sha256(whole(report).encode()).hexdigest(),
            agreement=agreement,
            gate_rows=[row for row in report.rows if row.drop and row.drop.gates],
            gates_explained=[text for kind, text in EXPLAINED.items() if getattr(report.gate, kind) not in (None, {})],
            failed=class_text(failed, agreement) if failed else "",
            worst=per_class_figure([entry for entry in report.per_class if opening and entry.row == opening.row.id]),
            latency_bars=bars([(row, row.latency_ms.p50) for row in report.rows if row.latency_ms], numbers.milliseconds),
            size_bars=bars([(row, row.size_bytes) for row in report.rows if row.size_bytes], numbers.megabytes),
            accuracy_bars=bars(
                [(row, score) for row, score in scores if score is not None], lambda score: f"{score:.2f} %", 100
            ),
            int8_bars=bars([(row, row.int8_share) for row in report.rows if row.int8_share], numbers.percent, 1),
            trades=trades(report.rows),
            swept=any(row.variant for row in report.rows),
            searched=searched(report.rows),
            conditions=conditions(report.rows),
            as_fast=as_fast,
            charts=charts(report.rows),
            speeds=speeds(report.rows),
            sensitivity=heat(report.stages),
            **more,
        )
    )


def only_chosen(row: Row) -> bool:
    """Whether the engine was only measured on the images that choose."""
    return row.chosen_on is not None and row.accuracy is None and row.agreement is None and row.network == "student"


def conditions(rows: list[Row]) -> list[str]:
    """The conditions of the latencies; one line if they are the same for all, as they should be."""
    found = [(row.latency_ms.batch, row.latency_ms.threads) for row in rows if row.latency_ms]
    return [
        f"batch {batch}" + (f", {threads} thread{'s' if threads != 1 else ''}" if threads else "")
        for batch, threads in dict.fromkeys(found)
    ]


def bars(values: Sequence[tuple[Row, float]], label: Callable[[float], str], whole: float | None = None) -> list[Bar]:
    """`whole` is the value of a bar of full length; None: the largest one."""
    longest = whole or max((value for _, value in values), default=1.0)
    return [Bar(label=row.id, text=label(value), share=100 * value / longest, kind=row.kind) for row, value in values]
