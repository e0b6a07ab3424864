"""A finished run -> report.json, report.md and report.html: the same numbers three times.

Templates hold the words and the layout; this file chooses the headline, scales the charts and writes the files.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from reports import numbers
from reports.rows import collect
from reports.schema import Part, Report, Row

TEMPLATES = Path(__file__).parent / "templates"


class Headline(Part):
    """The engine the report opens with and the baseline on the same target; `smaller` where both sizes are known."""

    row: Row
    baseline: Row | None
    smaller: float | None
    conditions: str


class Bar(Part):
    """A bar of a chart; `share` of the longest, in percent."""

    label: str
    text: str
    share: float
    kind: str


class Curve(Part):
    """Validation top-1 per epoch, as the points of an SVG polyline in a box of 100 x 40."""

    name: str
    points: str
    epochs: int
    low: float
    high: float


def render(out: Path) -> Report:
    """Write the three files into `out`; each appears whole or not at all."""
    report = collect(out)
    write(out / "report.json", report.model_dump_json(indent=1) + "\n")
    write(out / "report.md", text(report, "report.md.j2"))
    write(out / "report.html", text(report, "report.html.j2"))
    return report


def write(path: Path, content: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def text(report: Report, template: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(numbers.FILTERS)
    return environment.get_template(template).render(
        report=report,
        headline=headline(report.rows),
        latency_bars=bars({row.id: row.latency_ms.p50 for row in report.rows if row.latency_ms}, numbers.milliseconds),
        size_bars=bars({row.id: row.size_bytes for row in report.rows if row.size_bytes}, numbers.megabytes),
        conditions=conditions(report.rows),
        curves=[curve for stage in report.stages if (curve := curve_of(stage.name, stage.metrics))],
    )


def headline(rows: list[Row]) -> Headline | None:
    """A measured INT8 engine that ships, on onnxruntime where there is a choice; the next best where there is none."""
    candidates = [row for row in rows if row.id.startswith("student-int8/")]
    if not candidates:
        return None
    row = min(candidates, key=lambda row: (row.status != "measured", not row.ships, row.target != "onnxruntime"))
    baseline = next((other for other in rows if other.id == f"baseline-fp32/{row.target}"), None)
    sizes = baseline and baseline.size_bytes, row.size_bytes
    return Headline(
        row=row,
        baseline=baseline,
        smaller=sizes[0] / sizes[1] if sizes[0] and sizes[1] else None,
        conditions="".join(conditions([row])),
    )


def conditions(rows: list[Row]) -> list[str]:
    """Under which conditions the latencies were timed; one line where all were timed alike, as they should be."""
    found = [(row.latency_ms.batch, row.latency_ms.threads) for row in rows if row.latency_ms]
    return [
        f"batch {batch}" + (f", {threads} thread{'s' if threads != 1 else ''}" if threads else "")
        for batch, threads in dict.fromkeys(found)
    ]


def bars(values: Mapping[str, float], label: Callable[[float], str]) -> list[Bar]:
    """A bar for every row id of `values`."""
    longest = max(values.values(), default=1.0)
    return [
        Bar(label=key, text=label(value), share=100 * value / longest, kind=key.split("/")[0]) for key, value in values.items()
    ]


def curve_of(name: str, metrics: dict[str, Any]) -> Curve | None:
    """The training curve of a stage that kept one; None for the others and for fewer than two epochs."""
    history = metrics.get("history")
    if not isinstance(history, list) or len(history) < 2:
        return None
    values = [float(epoch["val_top1"]) for epoch in history]
    low, high = min(values), max(values)
    height = (high - low) or 1.0
    points = [f"{100 * i / (len(values) - 1):.2f},{39 - 38 * (v - low) / height:.2f}" for i, v in enumerate(values)]
    return Curve(name=name, points=" ".join(points), epochs=len(values), low=low, high=high)
