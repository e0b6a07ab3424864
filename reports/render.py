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
from reports.chart import charts, rate, speeds
from reports.findings import class_text
from reports.heat import heat
from reports.junit import junit
from reports.rows import collect
from reports.run_folder import read_record
from reports.schema import ClassDrop, LostImage, Report, Row, Stage
from reports.speed import speeds_in_words
from reports.summary import summary_of
from reports.sweep import searched, trades
from reports.thumbnails import thumbnails

TEMPLATES = Path(__file__).parent / "templates"
WORST_CLASSES = 20
PICTURES = 24
EXPLAINED = {
    "recall": "recall: the loss of recall of one class, on its images.",
    "worst_class": "worst_class: the loss of recall of every class. To pass, each has to be shown to be below the limit; the "
    "class with the largest upper limit is shown. To fail, one has to be significantly above it (exact test, Holm-corrected).",
    "balanced": "balanced: the mean over the classes of their losses of recall; its limits combine those of the classes "
    "(MOVER, Zou and Donner 2008).",
}  # what the limits of classes in GATE mean


class Headline(Part):
    """The engine at the top of the report and the baseline on the same target; `smaller` is None if a size is unknown."""

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


class Worst(Part):
    """The classes that lost most, of the headline engine; `more` others lost at most `at_most` points each.

    `scale` is the largest share of a class that any of them lost or gained, in percent.
    """

    classes: list[ClassDrop]
    more: int
    at_most: float | None
    scale: float


class Picture(Part):
    """A lost image and its data URI; None if it can no longer be opened."""

    image: LostImage
    uri: str | None


class Curve(Part):
    """Validation top-1 per epoch, as the points of an SVG polyline in a box of 100 x 40."""

    name: str
    points: str
    epochs: int
    low: float
    high: float


def render(out: Path) -> Report:
    """Write the five files into `out`; each appears whole or not at all."""
    report = collect(out)
    write(out / "report.json", whole(report))
    write(out / "report.md", text(report, "report.md.j2"))
    write(out / "report.html", text(report, "report.html.j2", pictures=pictures(report, read_record(out).images.path)))
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


def text(report: Report, template: str, **more: Any) -> str:
    opening = headline(report)
    agreement = report.gate.metric == "agreement"
    failed = opening.row.drop.failed_classes if opening and opening.row.drop else []
    return (
        environment()
        .get_template(template)
        .render(
            report=report,
            headline=opening,
            summary=summary_of(report),
            sha256=hashlib.sha256(whole(report).encode()).hexdigest(),
            agreement=agreement,
            gate_rows=[row for row in report.rows if row.drop and row.drop.gates],
            gates_explained=[text for kind, text in EXPLAINED.items() if getattr(report.gate, kind) not in (None, {})],
            failed=class_text(failed, agreement) if failed else "",
            worst=worst([entry for entry in report.per_class if opening and entry.row == opening.row.id]),
            latency_bars=bars([(row, row.latency_ms.p50) for row in report.rows if row.latency_ms], numbers.milliseconds),
            size_bars=bars([(row, row.size_bytes) for row in report.rows if row.size_bytes], numbers.megabytes),
            trades=trades(report.rows),
            searched=searched(report.rows),
            conditions=conditions(report.rows),
            as_fast=speeds_in_words(report.rows),
            charts=charts(report.rows),
            speeds=speeds(report.rows),
            sensitivity=heat(report.stages),
            # Without labels there is no top-1 during training.
            curves=[curve_of(stage) for stage in report.stages if report.dataset.labelled and trained(stage)],
            **more,
        )
    )


def only_chosen(row: Row) -> bool:
    """Whether the engine was only measured on the images that choose."""
    return row.chosen_on is not None and row.accuracy is None and row.agreement is None and row.network == "student"


def headline(report: Report) -> Headline | None:
    """The best candidate: first by measured, then by ships, then by target onnxruntime."""
    judged, rows = {entry.id for entry in report.gate.rows}, report.rows
    candidates = [row for row in rows if row.id in judged or row.status in ("prepared", "unavailable")]
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


def worst(classes: list[ClassDrop]) -> Worst | None:
    """Failed classes first, then by points lost, then by images lost. None if no class was measured."""
    if not classes:
        return None
    ordered = sorted(classes, key=lambda entry: (entry.verdict != "fail", -entry.points, -entry.lost))
    shown, others = ordered[:WORST_CLASSES], ordered[WORST_CLASSES:]
    return Worst(
        classes=shown,
        more=len(others),
        at_most=max((entry.points for entry in others), default=None),
        scale=max(100 * max(entry.lost, entry.gained) / entry.n for entry in shown) or 1.0,
    )


def pictures(report: Report, images: Path) -> list[Picture]:
    """Pictures of the headline engine's lost images; `images` is the folder of the stage `index`."""
    opening = headline(report)
    lost = [image for image in report.lost_images if opening and image.row == opening.row.id][:PICTURES]
    uris = thumbnails(images, [image.index for image in lost]) if lost else {}
    return [Picture(image=image, uri=uris.get(image.index)) for image in lost]


def conditions(rows: list[Row]) -> list[str]:
    """The conditions of the latencies; one line if they are the same for all, as they should be."""
    found = [(row.latency_ms.batch, row.latency_ms.threads) for row in rows if row.latency_ms]
    return [
        f"batch {batch}" + (f", {threads} thread{'s' if threads != 1 else ''}" if threads else "")
        for batch, threads in dict.fromkeys(found)
    ]


def bars(values: Sequence[tuple[Row, float]], label: Callable[[float], str]) -> list[Bar]:
    longest = max((value for _, value in values), default=1.0)
    return [Bar(label=row.id, text=label(value), share=100 * value / longest, kind=row.kind) for row, value in values]


def trained(stage: Stage) -> bool:
    """Whether the stage recorded the top-1 of at least two epochs."""
    history = stage.metrics.get("history")
    return isinstance(history, list) and len(history) > 1 and all(epoch.get("val_top1") is not None for epoch in history)


def curve_of(stage: Stage) -> Curve:
    values = [float(epoch["val_top1"]) for epoch in stage.metrics["history"]]
    low, high = min(values), max(values)
    height = (high - low) or 1.0
    points = [f"{100 * i / (len(values) - 1):.2f},{39 - 38 * (v - low) / height:.2f}" for i, v in enumerate(values)]
    return Curve(name=stage.name, points=" ".join(points), epochs=len(values), low=low, high=high)
