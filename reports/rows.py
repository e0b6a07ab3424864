"""OUT/run.json and the manifests of its stages -> the whole report: rows, gate verdict, notes, …

Accuracy, agreement and drop are all computed from the stored predictions of the engine, so they cannot contradict each other.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from core.cache import Artifact
from core.engine_name import EngineName
from data.loader import Split
from measure.gate import Gate, power_notes, worst
from measure.predictions import accuracy_of, agreement_of
from measure.verdict import Accuracy, Agreement, Drop, Verdict
from reports.batching import batch_at_limit, notes_of
from reports.budget_notes import budget_notes
from reports.classes import lost_images, per_class
from reports.findings import findings
from reports.provenance import provenance_notes, provenance_of
from reports.run_folder import RunRecord, TargetResult, read_record
from reports.schema import Environment, GateResult, GateRow, Latency, Metric, Precision, Report, Row, Stage, Throughput
from reports.sweep import sweep_notes, with_front


def collect(out: Path) -> Report:
    """The report of the run in `out`. Raises ValueError if there is no run."""
    run = read_record(out)
    dataset = run.dataset
    rows = with_front([row for result in run.targets for row in rows_of(run, result, out)])
    candidates = {str(result.candidate_name) for result in run.targets}
    judged = [row for row in rows if row.id in candidates]
    gate = gate_result(judged, run.gate, "top1" if dataset.labelled else "agreement")
    stages = [stage_of(stage, run.environment, out) for stage in run.stages]
    notes = [
        *(note for stage in stages for note in stage.metrics.get("notes", [])),
        *power_notes(run.counted, run.gate.max_drop),
        *findings(rows, gate),
        *(note for result in run.targets for note in rung_notes(result)),
        *(note for result in run.targets for note in not_climbed_notes(result, run.gate, gate)),
        *budget_notes(stages, rows),
        *sweep_notes(rows, gate),
        *notes_of(rows, run.latency_limit),
        *provenance_notes(stages, run.created, run.environment),
    ]
    image_name = Split(run.images.path, "test").name
    return Report(
        created=run.created,
        command=run.command,
        seconds=run.seconds,
        environment=run.environment,
        model=run.model,
        dataset=dataset,
        stages=stages,
        rows=rows,
        gate=gate,
        requested=run.requested,
        notes=list(dict.fromkeys(notes)),
        per_class=[entry for result in run.targets for entry in per_class(result, dataset, run.judge)],
        lost_images=[image for result in run.targets for image in lost_images(result, dataset, run.judge, image_name)],
    )


def missing_requested(report: Report) -> list[str]:
    """The targets that the user named and that cannot be built here."""
    built = {EngineName.parse(candidate.id).target for candidate in report.gate.rows}
    return [target for target in report.requested if target not in built]


def rows_of(run: RunRecord, result: TargetResult, out: Path) -> list[Row]:
    """A row per engine of the target; if there is no engine, one row with the reason."""
    if result.unavailable:
        return [missing(result.candidate_name, result.unavailable, ships=result.bundle is not None)]
    built = [row_of(run, result, name, engine, out) for name, engine in result.engines.items()]
    return built + [missing(name, reason) for name, reason in result.refused.items()]


def missing(name: EngineName, reason: str, ships: bool = False) -> Row:
    """The row of an engine that could not be built."""
    return Row(id=str(name), network=name.network, variant=name.variant or None, precision=precision_of(name),
               target=name.target, status="unavailable", reason=reason, ships=ships)  # fmt: skip


def precision_of(name: EngineName) -> Precision:
    """The precision that an engine of this name has; the ladder's forms are "mixed3" and "qat"."""
    return "mixed" if name.form.startswith("mixed") else "int8" if name.form == "qat" else cast(Precision, name.form)


def row_of(run: RunRecord, result: TargetResult, name: EngineName, engine: Artifact, out: Path) -> Row:
    build, exported = engine.metrics, run.exported(name).metrics
    accuracy, agreement, drop = judged_of(run, result, name)
    latency, reference = latency_of(result.timed, name.key), latency_of(result.timed, result.baseline.key)
    throughput = [Throughput(**point) for point in result.timed.get("throughput", {}).get(name.key, [])]
    return Row(
        id=str(name),
        network=name.network,
        variant=name.variant or None,
        precision="mixed" if name.form.startswith("mixed") else build["precision"],
        target=name.target,
        status="measured" if name in result.predictions else "built",
        reason=result.cannot_run,
        artifact=f"{engine.path.relative_to(out)}/{build['file']}" if build["file"] else None,
        sha256=build["sha256"],
        size_bytes=build["size_bytes"],
        params=exported["params"],
        macs=exported["macs"],
        accuracy=accuracy,
        agreement=agreement,
        drop=drop,
        latency_ms=latency,
        throughput=throughput,
        batch_at_limit=batch_at_limit(throughput, run.latency_limit),
        speedup=reference.p50 / latency.p50 if reference and latency else None,
        int8_share=build["int8_share"],
        ships=name == result.candidate and result.bundle is not None and not (drop and drop.verdict == "fail"),
    )


def rung_notes(result: TargetResult) -> Iterator[str]:
    """A note for each engine that the recovery ladder tried for the target."""
    for rung in result.rungs:
        verdict = "passes the gate" if rung.passes else "also fails the gate"
        yield f"{rung.name}: {rung.what}; {verdict} (built and evaluated in {rung.seconds:.0f} s)."


def not_climbed_notes(result: TargetResult, gate: Gate, judged: GateResult) -> Iterator[str]:
    """A note if the candidate does not pass and the ladder was climbed for another gate than the one that judges."""
    verdicts = {row.id: row.verdict for row in judged.rows}
    stays = verdicts.get(str(result.candidate)) in (("fail", "inconclusive") if gate.strict else ("fail",))
    if stays and result.climbed_for and result.climbed_for != gate:
        yield (
            f"The recovery ladder on {result.target} was climbed for {text_of(result.climbed_for)}, not for {text_of(gate)}: a "
            'changed gate only judges what was built before. ARGS="--set ladder.again=true" climbs it for the new gate.'
        )


def text_of(gate: Gate) -> str:
    """The gate as the user writes it."""
    kept = "none" if gate.max_class_drop is None else f"{gate.max_class_drop:g}"
    classes = "" if gate.max_class_drop == Gate().max_class_drop else f" gate.max_class_drop={kept}"
    return f"MAX_DROP={gate.max_drop:g}{' STRICT=1' * gate.strict}{classes}"


def judged_of(run: RunRecord, result: TargetResult, name: EngineName) -> tuple[Accuracy | None, Agreement | None, Drop | None]:
    """The engine's accuracy, or its agreement on unlabelled images, and its drop against the baseline of the same target."""
    if name not in result.predictions:
        return None, None, None
    candidate, baseline = result.predicted[name], result.predicted.get(result.baseline)
    accuracy = accuracy_of(candidate) if run.dataset.labelled else None
    if name == result.baseline or baseline is None:
        return accuracy, None, None
    drop = run.judge.drop(baseline, candidate)
    if run.dataset.labelled:
        return accuracy, None, drop
    # A relative drop needs the baseline's accuracy, which is unknown here.
    return None, agreement_of(baseline, candidate), drop.model_copy(update={"relative_percent": None})


def latency_of(timed: dict[str, Any], key: str) -> Latency | None:
    """The latency of the engine `key`, from the metrics of measure/engines.py `latency`."""
    if key not in timed["timed"]:
        return None
    return Latency(batch=timed["batch"], threads=timed["threads"], **timed["timed"][key])


def gate_result(candidates: list[Row], gate: Gate, metric: Metric) -> GateResult:
    """With STRICT, the verdict is not a pass if a candidate ships without a measurement. Candidates that are built only on the
    device do not count."""
    candidates = [row for row in candidates if row.status != "unavailable"]
    verdicts: list[Verdict] = [row.drop.verdict for row in candidates if row.drop]
    if gate.strict and any(row.ships and row.drop is None for row in candidates):
        verdicts.append("inconclusive")
    return GateResult(
        metric=metric,
        max_drop=gate.max_drop,
        max_class_drop=gate.class_limit,
        strict=gate.strict,
        verdict=worst(verdicts),
        rows=[GateRow(id=row.id, verdict=row.drop.verdict if row.drop else "unmeasured") for row in candidates],
    )


def stage_of(stage: Artifact, environment: Environment, out: Path) -> Stage:
    """`environment` is that of the run."""
    manifest = stage.manifest
    return Stage(
        name=manifest["name"],
        seconds=manifest["seconds"],
        cached=manifest["cached"],
        artifact=str(stage.path.relative_to(out)),
        metrics=stage.metrics,
        **provenance_of(manifest, environment),
    )
