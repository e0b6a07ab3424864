"""OUT/run.json and the manifests of the stages it names -> the report's rows, gate verdict and everything else in it.

Accuracy, agreement and drop all come from the stored predictions of the engine itself, so they cannot contradict each other.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from data.loader import Split
from measure.gate import Gate, drop_of, worst
from measure.predictions import accuracy_of, agreement_of
from measure.verdict import Accuracy, Agreement, Drop, Verdict
from reports.batching import batch_at_limit, unmet
from reports.budget_notes import budget_notes
from reports.classes import lost_images, per_class
from reports.findings import findings
from reports.run_folder import BASELINE, Folder, dataset_of, metrics, run_of, variant_of
from reports.schema import Environment, GateResult, GateRow, Latency, Metric, Report, Row, Stage, Throughput
from reports.sweep import sweep_notes, with_front


def collect(out: Path) -> Report:
    """The report of the run in `out`.

    Raises ValueError when there is no run.
    """
    run = run_of(out)
    gate = Gate(**run["gate"])
    images = out / run["images"]
    dataset = dataset_of(images)
    folders = [Folder(out, run, target, dataset.labelled) for target in run["targets"]]
    rows = with_front([row for folder in folders for row in rows_of(folder, gate)])
    candidates = {folder.candidate_id for folder in folders}
    result = gate_result([row for row in rows if row.id in candidates], gate, "top1" if dataset.labelled else "agreement")
    names = Split(images, "test").name
    stages = [stage_of(out, **stage) for stage in run["stages"]]
    said = [note for stage in stages for note in stage.metrics.get("notes", [])]
    return Report(
        created=run["created"],
        command=run["command"],
        seconds=run["seconds"],
        environment=Environment(**run["environment"]),
        model=run["model"],
        dataset=dataset,
        stages=stages,
        rows=rows,
        gate=result,
        requested=run["requested"],
        notes=list(
            dict.fromkeys(
                [
                    *said,
                    *findings(rows, result),
                    *(note for folder in folders for note in rung_notes(folder)),
                    *budget_notes(stages, rows),
                    *sweep_notes(rows, result),
                    *unmet(rows, run.get("latency_limit")),
                ]
            )
        ),
        per_class=[entry for folder in folders for entry in per_class(folder, dataset.classes)],
        lost_images=[image for folder in folders for image in lost_images(folder, dataset.classes, names)],
    )


def missing_requested(report: Report) -> list[str]:
    """The targets that the user asked for by name and that cannot be built here."""
    built = {candidate.id.split("/")[1] for candidate in report.gate.rows}
    return [target for target in report.requested if target not in built]


def rows_of(folder: Folder, gate: Gate) -> list[Row]:
    """One row per engine of the target; one that says why where the target has none."""
    target = folder.target
    if "unavailable" in target:
        return [
            Row(
                id=folder.candidate_id,
                network="student",
                precision="int8",
                target=target["target"],
                status="unavailable",
                reason=target["unavailable"],
                ships="bundle" in target,
            )
        ]
    refused = [
        Row(id=f"{key}/{target['target']}", network=network_of(key), variant=variant_of(key),
            precision=key.partition("[")[0].split("-")[1], target=target["target"], status="unavailable", reason=reason)
        for key, reason in target.get("refused", {}).items()
    ]  # fmt: skip
    return [row_of(folder, key, path, gate) for key, path in target["engines"].items()] + refused


def row_of(folder: Folder, key: str, path: str, gate: Gate) -> Row:
    target = folder.target
    build, exported = metrics(folder.out, path), metrics(folder.out, folder.exported(key))
    accuracy, agreement, drop = judged(folder, key, gate)
    latency = latency_of(folder.latency, key)
    reference = latency_of(folder.latency, BASELINE)
    throughput = [Throughput(**point) for point in folder.latency.get("throughput", {}).get(key, [])]
    return Row(
        id=f"{key}/{target['target']}",
        network=network_of(key),
        variant=variant_of(key),
        precision="mixed" if key.startswith("student-mixed") else build["precision"],
        target=target["target"],
        status="measured" if key in folder.answers else "built",
        reason=target["cannot_run"],
        artifact=f"{path}/{build['file']}" if build["file"] else None,
        sha256=build["sha256"],
        size_bytes=build["size_bytes"],
        params=exported["params"],
        macs=exported["macs"],
        accuracy=accuracy,
        agreement=agreement,
        drop=drop,
        latency_ms=latency,
        throughput=throughput,
        batch_at_limit=batch_at_limit(throughput, folder.run.get("latency_limit")),
        speedup=reference.p50 / latency.p50 if reference and latency else None,
        int8_share=build["int8_share"],
        ships=key == folder.candidate and "bundle" in target and not (drop and drop.verdict == "fail"),
    )


def rung_notes(folder: Folder) -> Iterator[str]:
    """What the recovery ladder tried for the target, in words."""
    for rung in folder.target.get("rungs", []):
        result = "passes the gate" if rung["passes"] else "misses the gate, too"
        yield f"{rung['row']}/{folder.target['target']}: {rung['what']}; {result} ({rung['seconds']:.0f} s to make and ask it)."


def network_of(key: str) -> Literal["baseline", "student"]:
    return "baseline" if key.startswith("baseline") else "student"


def judged(folder: Folder, key: str, gate: Gate) -> tuple[Accuracy | None, Agreement | None, Drop | None]:
    """What the engine gets right, or unlabelled how often it agrees, and its drop against the same target's baseline."""
    if key not in folder.answers:
        return None, None, None
    given, baseline = folder.answers[key], folder.answers.get(BASELINE)
    accuracy = accuracy_of(given) if folder.labelled else None
    if key == BASELINE or baseline is None:
        return accuracy, None, None
    drop = drop_of(baseline.first == folder.truth, given.first == folder.truth, gate.max_drop)
    if folder.labelled:
        return accuracy, None, drop
    # Relative to what the baseline gets right, which nobody knows here.
    return None, agreement_of(baseline, given), drop.model_copy(update={"relative_percent": None})


def latency_of(latency: dict[str, Any], key: str) -> Latency | None:
    if key not in latency["timed"]:
        return None
    return Latency(batch=latency["batch"], threads=latency["threads"], **latency["timed"][key])


def gate_result(candidates: list[Row], gate: Gate, metric: Metric) -> GateResult:
    """Strict, a candidate that ships unmeasured keeps the verdict from being a pass; one that is still to be built does not."""
    candidates = [row for row in candidates if row.status != "unavailable"]
    verdicts: list[Verdict] = [row.drop.verdict for row in candidates if row.drop]
    if gate.strict and any(row.ships and row.drop is None for row in candidates):
        verdicts.append("inconclusive")
    return GateResult(
        metric=metric,
        max_drop=gate.max_drop,
        strict=gate.strict,
        verdict=worst(verdicts),
        rows=[GateRow(id=row.id, verdict=row.drop.verdict if row.drop else "unmeasured") for row in candidates],
    )


def stage_of(out: Path, path: str, cached: bool, name: str) -> Stage:
    manifest = json.loads((out / path / "manifest.json").read_text())
    return Stage(name=name, seconds=manifest["seconds"], cached=cached, artifact=path, metrics=manifest["metrics"])
