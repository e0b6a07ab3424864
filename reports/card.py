"""A report -> bundle/README.md, a model card as the Hugging Face hub reads it: what ships, its results, conditions and limits.

It states only what the report has. The license is the user's to state: respress does not know those of the checkpoint and the
images.
"""

from pathlib import Path

from core.engine_name import PATTERN
from data.index import NAMED
from reports.render import environment, write
from reports.schema import Report
from reports.speed import busy_notes
from reports.summary import device_of, line_of, timed_text


def write_card(report: Report, out: Path) -> None:
    """Write OUT/bundle/README.md if an engine ships and its bundle is still there."""
    if any(row.ships for row in report.rows) and (out / "bundle").is_dir():
        write(out / "bundle" / "README.md", card(report))


def card(report: Report) -> str:
    shipped = [row for row in report.rows if row.ships]
    return (
        environment()
        .get_template("card.md.j2")
        .render(
            report=report,
            front_matter=front_matter(report),
            agreement=report.gate.metric == "agreement",
            lines=[line_of(row, report) for row in shipped],
            device=device_of(report.environment),
            measured_over_ssh=[device.name for device in report.devices],
            timed=timed_text(shipped),
            busy=next(busy_notes(report.rows), None),
            notes=[note for note in report.notes if concerns(note, {row.id for row in shipped})],
        )
    )


def concerns(note: str, shipped: set[str]) -> bool:
    """Whether the note is not about an engine that stays behind; such a note begins with the id of the engine."""
    first = note.split(" ", 1)[0].rstrip(":")
    return first in shipped or not PATTERN.fullmatch(first)


def front_matter(report: Report) -> str:
    """The YAML of the card; its library writes it, which quotes names that YAML would misread."""
    from huggingface_hub import EvalResult, ModelCardData  # 0.6 s, only where a bundle is written

    shipped = [row for row in report.rows if row.ships]
    name = report.dataset.name
    public = name in NAMED and NAMED[name]["classes"] == report.dataset.classes  # a folder may have the same name
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=name if public else "imagefolder",
            dataset_name=name,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"top-1 of {row.id}",
            metric_value=round(row.accuracy.correct / row.accuracy.n, 6),
        )
        for row in shipped
        if row.accuracy
    ]
    library = dict.fromkeys(row.target for row in shipped)
    data = ModelCardData(
        model_name=f"{report.model}, pressed",
        eval_results=results or None,
        pipeline_tag="image-classification",
        library_name=next(iter(library)),
        tags=list(dict.fromkeys(["respress", report.model, *library, *(row.precision for row in shipped)])),
        datasets=[name] if public else None,
        metrics=["accuracy"] if results else None,
    )
    return str(data.to_yaml()).strip()
