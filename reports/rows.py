"""OUT/run.json and the manifests of its stages -> the whole report: rows, gate verdict, notes, …

Accuracy, agreement and drop are all computed from the stored predictions of the engine, so they cannot contradict each other.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from core.cache import Artifact
from core.engine_name import EngineName
from data.loader import Split
from measure.gate import Gate, worst
from measure.gate import exit_code as exit_code_of
from measure.judge import Judge
from measure.power import power_notes
from measure.predictions import Predictions, accuracy_of, agreement_of
from measure.sequence import standings
from measure.statistics import tango_interval
from measure.turns import share_quicker
from measure.verdict import Accuracy, Agreement, Drop, Verdict
from reports.batching import batch_at_limit, notes_of
from reports.budget_notes import budget_notes
from reports.classes import confusions, gained_images, lost_images, per_class
from reports.contamination import contamination_notes
from reports.findings import findings
from reports.on_device import devices_seen, read_run
from reports.provenance import provenance_notes, provenance_of
from reports.run_folder import RunRecord, TargetResult
from reports.schema import (
    ChosenOn,
    Environment,
    GateResult,
    GateRow,
    Latency,
    Metric,
    Precision,
    Report,
    Row,
    SpeedupTurns,
    Stage,
    Throughput,
)
from reports.speed import machine_notes
from reports.sweep import sweep_notes, with_front


def collect(out: Path) -> Report:
    """The report of the run in `out` and of the devices that measured its engines. Raises ValueError if there is no run."""
    run = read_run(out)
    dataset = run.dataset
    rows = with_front([row for result in run.targets for row in rows_of(run, result, out)])
    candidates, shipping = {str(result.candidate_name) for result in run.targets}, {row.variant for row in rows if row.ships}
    gate = gate_result([row for row in rows if row.id in candidates], run.gate, "top1" if dataset.labelled else "agreement")
    stages = [stage_of(stage, run.environment, out) for stage in run.stages]
    judging = Split(run.images.path, "test")
    notes = [
        *run.notes,
        *(note for stage in stages for note in stage.metrics.get("notes", [])),
        *power_notes(run.judge, judging.labels),
        *contamination_notes(rows),
        *findings(rows, gate),
        *(note for result in run.targets for note in machine_notes(result)),
        *(note for result in run.targets for note in rung_notes(result)),
        *(note for result in run.targets for note in not_climbed_notes(result, run.gate, gate)),
        *([] if run.levels else budget_notes(stages, rows)),
        *sweep_notes(rows, gate),
        *notes_of(rows, run.latency_limit),
        *provenance_notes(stages, run.created, run.environment),
    ]
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
        per_class=[entry for result in run.targets for entry in per_class(result, dataset, result.judged_by(run.judge))],
        lost_images=[image for result in run.targets for image in lost_images(result, dataset, run.judge, judging.name)],
        gained_images=[image for result in run.targets for image in gained_images(result, dataset, run.judge, judging.name)],
        confusions=[pair for result in run.targets for pair in confusions(result, dataset, result.judged_by(run.judge))],
        devices=devices_seen(out),
        levels=[level.model_copy(update={"ships": level.name in shipping}) for level in run.levels],
    )


def missing_requested(report: Report) -> list[str]:
    """The targets that the user named and that can be neither built nor prepared here."""
    had = {EngineName.parse(candidate.id).target for candidate in report.gate.rows}
    had |= {row.on for row in report.rows if row.status == "prepared"}
    return [target for target in report.requested if target not in had]


def exit_code(report: Report, devices: Collection[str] = ()) -> int:
    """The exit code of a command that named these `devices`: 3 if an engine could not be measured on one of them.

    STRICT does not count if there is nothing to judge because all engines are only prepared.
    """
    prepared = not report.gate.rows and any(row.status == "prepared" for row in report.rows)
    named = (row for row in report.rows if row.device in devices)
    missing = bool(missing_requested(report)) or any(row.status == "unavailable" for row in named)
    return exit_code_of(report.gate.verdict, report.gate.strict and not prepared, missing)


def rows_of(run: RunRecord, result: TargetResult, out: Path) -> list[Row]:
    """A row per engine of the target; if there is no engine, one row with the reason."""
    if result.unavailable:
        return [missing(result.candidate_name, result.unavailable, prepared=result.bundle is not None)]
    standing = standings_of(run, result)
    built = [row_of(run, result, name, engine, standing.get(name), out) for name, engine in result.engines.items()]
    return built + [missing(name, reason) for name, reason in result.refused.items()]


def missing(name: EngineName, reason: str, prepared: bool = False) -> Row:
    """The row of an engine that could not be built. If it is prepared, the device builds it, and its bundle ships."""
    return Row(id=str(name), network=name.network, variant=name.variant or None, precision=precision_of(name),
               target=name.engine, device=name.device, status="prepared" if prepared else "unavailable", reason=reason,
               ships=prepared)  # fmt: skip


def precision_of(name: EngineName) -> Precision:
    """The precision that an engine of this name has; the ladder's forms are "mixed3" and "qat"."""
    return "mixed" if name.form.startswith("mixed") else "int8" if name.form == "qat" else cast(Precision, name.form)


def row_of(
    run: RunRecord, result: TargetResult, name: EngineName, engine: Artifact, standing: Verdict | None, out: Path
) -> Row:
    build, exported = engine.metrics, run.exported(name).metrics
    accuracy, agreement, drop = judged_of(run, result, name)
    latency = latency_of(result.timed, name.key)
    throughput = [Throughput(**point) for point in result.timed.get("throughput", {}).get(name.key, [])]
    return Row(
        id=str(name),
        network=name.network,
        variant=name.variant or None,
        precision="mixed" if name.form.startswith("mixed") else build["precision"],
        target=name.engine,
        device=name.device,
        status="built" if result.cannot_run else "measured",
        reason=result.reason,
        chosen_on=chosen_on_of(run, result, name),
        artifact=f"{engine.path.relative_to(out)}/{build['file']}" if build["file"] else None,
        sha256=build["sha256"],
        size_bytes=build["size_bytes"],
        params=exported["params"],
        macs=exported["macs"],
        accuracy=accuracy,
        agreement=agreement,
        drop=drop,
        standing=standing,
        latency_ms=latency,
        throughput=throughput,
        batch_at_limit=batch_at_limit(throughput, run.latency_limit),
        **speedup_of(result.timed, name.key, result.baseline.key),
        **result.measured_alone(name),
        int8_share=build["int8_share"],
        ships=name == result.candidate and result.bundle is not None and allowed(standing, run.gate),
    )


def allowed(standing: Verdict | None, gate: Gate) -> bool:
    """Whether the gate lets an engine with this verdict ship; None: it was not measured."""
    return standing == "pass" or (standing != "fail" and not gate.strict)


def standings_of(run: RunRecord, result: TargetResult) -> dict[EngineName, Verdict]:
    """The verdicts of the judged engines, as they count in their sequence; of an engine for a device, that it failed here."""
    if result.cannot_run:
        chosen = chosen_on_of(run, result, result.candidate_name)
        return {result.candidate_name: "fail"} if chosen and chosen.verdict == "fail" else {}
    drops = [judged_of(run, result, name)[2] for name in result.judged]
    return dict(zip(result.judged, standings([drop.verdict if drop else "inconclusive" for drop in drops]), strict=True))


def chosen_on_of(run: RunRecord, result: TargetResult, name: EngineName) -> ChosenOn | None:
    """None if the engine was not measured on the images that choose."""
    if name not in result.held_out:
        return None
    accuracy, agreement, drop = figures(result.predicted_held_out, name, run.chooser)
    return ChosenOn(
        top1=accuracy.top1 if accuracy else None,
        agreement=agreement.percent if agreement else None,
        n=len(result.predicted_held_out[name].labels),
        drop=drop.points if drop else None,
        upper_95=drop.upper_95 if drop else None,
        interval=tango_interval(drop.lost, drop.gained, drop.n) if drop else None,
        verdict=drop.verdict if drop else None,
    )


def rung_notes(result: TargetResult) -> Iterator[str]:
    """A note for each engine that the recovery ladder tried for the target."""
    for rung in result.rungs:
        verdict = {"pass": "passes", "inconclusive": "is inconclusive", "fail": "also fails"}[rung.verdict]
        few = " These images are too few for any engine to pass, so no further one was built." if rung.too_few else ""
        seconds = f"built and evaluated in {rung.seconds:.0f} s"
        yield f"{rung.name}: {rung.what}; {verdict} on the images that choose ({seconds}).{few}"


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
    return f'GATE="{gate.text}"{" STRICT=1" * gate.strict}{classes}'


Figures = tuple[Accuracy | None, Agreement | None, Drop | None]


def judged_of(run: RunRecord, result: TargetResult, name: EngineName) -> Figures:
    return figures(result.predicted, name, result.judged_by(run.judge))


def figures(predicted: Mapping[EngineName, Predictions], name: EngineName, judge: Judge) -> Figures:
    """The engine's accuracy, or its agreement on unlabelled images, and its drop against the baseline of the same target."""
    if name not in predicted:
        return None, None, None
    candidate, baseline = predicted[name], predicted.get(EngineName.baseline(name.target))
    labelled = bool((candidate.labels >= 0).all())
    accuracy = accuracy_of(candidate) if labelled else None
    if baseline is None or candidate is baseline:
        return accuracy, None, None
    drop = judge.drop(baseline, candidate)
    if labelled:
        return accuracy, None, drop
    # A relative drop needs the baseline's accuracy, which is unknown here.
    return None, agreement_of(baseline, candidate), drop.model_copy(update={"relative_percent": None})


def latency_of(timed: dict[str, Any], key: str) -> Latency | None:
    """The latency of the engine `key`, from the metrics of measure/latency.py `latency`."""
    if key not in timed["timed"]:
        return None
    return Latency(batch=timed["batch"], threads=timed["threads"], **timed["timed"][key])


def speedup_of(timed: dict[str, Any], key: str, baseline: str) -> dict[str, Any]:
    """The fields `speedup` and `speedup_turns` of the engine `key` against the engine `baseline`."""
    latency, reference = latency_of(timed, key), latency_of(timed, baseline)
    if latency is None or reference is None:
        return {}
    certain = None
    if key != baseline and latency.turns:
        low, high = timed["ratios"][baseline][key]
        share = share_quicker(latency.turns, reference.turns)
        certain = SpeedupTurns(low=low, high=high, share=share, n=len(latency.turns))
    return {"speedup": reference.p50 / latency.p50, "speedup_turns": certain}


def gate_result(candidates: list[Row], gate: Gate, metric: Metric) -> GateResult:
    """With STRICT, the verdict is not a pass if a candidate could not be measured. What is only prepared does not count."""
    built = [row for row in candidates if row.status in ("measured", "built")]
    verdicts: list[Verdict] = [row.standing for row in built if row.standing]
    if gate.strict and any(row.standing is None for row in built):
        verdicts.append("inconclusive")
    return GateResult(
        metric=metric,
        max_drop=gate.max_drop,
        recall=gate.recall,
        worst_class=gate.worst_class,
        balanced=gate.balanced,
        max_class_drop=gate.class_limit,
        strict=gate.strict,
        verdict=worst(verdicts),
        rows=[GateRow(id=row.id, verdict=row.standing or "unmeasured") for row in built],
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
        content=manifest.get("content"),
        code=manifest.get("code"),
        inputs=manifest.get("inputs", {}),
        **provenance_of(manifest, environment),
    )
