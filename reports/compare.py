"""Finished runs of several models, and the latencies of their engines in turns -> compare.json, compare.md, compare.html."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from core.engine_name import EngineName
from core.text import problem
from reports.choices import choices, notes
from reports.comparison import Comparison, Contestant, Engine, Table
from reports.findings import doubts_text
from reports.on_device import read_run
from reports.render import environment, write
from reports.rows import latency_of, speedup_of
from reports.scatter import Drawn, Kind, Point, best, drawn
from reports.schema import Report, Row, Throughput
from reports.speed import busy_notes
from reports.summary import candidate

COMPARISON = "compare.json"
TRAINING = ("index", "load_checkpoint", "train")  # stages that a model needs before it can be pressed


@dataclass(frozen=True)
class Entrant:
    """One of the models: the folder of its run and its report, or the reason why there is no report."""

    folder: Path
    report: Report | None
    reason: str | None = None


def compared(
    entrants: Mapping[str, Entrant],
    timed: Mapping[str, dict[str, Any]],
    out: Path,
    *,
    created: str,
    command: str,
    started: float,
) -> Comparison:
    """The comparison of `entrants` by name, at least one with a report.

    `timed` are the metrics of measure/latency.py `latency` by target, with `notes`; its engines are named "model/row".
    `started` is the start of the command by time.perf_counter(). Targets without an engine that could ship, such as the
    reference, are left out.
    """
    reports = {name: entrant.report for name, entrant in entrants.items() if entrant.report}
    first = next(iter(reports.values()))
    targets = dict.fromkeys(row.on for report in reports.values() for row in report.rows if candidate(report, row.on))
    return Comparison(
        created=created,
        command=command,
        seconds=round(time.perf_counter() - started, 1),
        environment=first.environment,
        dataset=first.dataset,
        max_drop=first.gate.max_drop,
        gate=first.gate.text,
        strict=first.gate.strict,
        requested=first.requested,
        models=[contestant(name, entrant, out) for name, entrant in entrants.items()],
        targets=[table(target, entrants, timed.get(target, {"timed": {}})) for target in targets],
    )


def contestant(name: str, entrant: Entrant, out: Path) -> Contestant:
    if entrant.report is None:
        return Contestant(name=name, report=None, reason=entrant.reason)
    return Contestant(
        name=name,
        report=str(entrant.folder.relative_to(out)),
        input_shape=entrant.report.dataset.input_shape,
        minutes=minutes(entrant.report),
    )


def minutes(report: Report) -> float:
    return sum(stage.seconds for stage in report.stages if stage.name.split()[0] not in TRAINING) / 60


def table(target: str, entrants: Mapping[str, Entrant], timed: dict[str, Any]) -> Table:
    engines: list[Engine] = []
    right: dict[str, NDArray[np.bool_]] = {}
    for name, entrant in entrants.items():
        if entrant.report is None:
            absent = EngineName("student", "int8", "", target)
            engines.append(
                Engine(id=f"{name}/{absent}", model=name, network="student", precision="int8", target=target,
                       status="unavailable", reason=entrant.reason, why_not=entrant.reason)
            )  # fmt: skip
            continue
        chosen = candidate(entrant.report, target)
        rows = [row for row in entrant.report.rows if row.id == str(EngineName.baseline(target))] + ([chosen] if chosen else [])
        engines += [engine_of(name, entrant.report, row, timed) for row in rows]
        right |= {f"{name}/{row}": correct for row, correct in right_of(entrant.folder, target).items()}
    found = set(best(points(engines)))
    engines = [engine.model_copy(update={"front": i in found}) for i, engine in enumerate(engines)]
    gate = next(entrant.report.gate.text for entrant in entrants.values() if entrant.report)
    remarks = [*busy_notes(engines), *notes(engines, gate), *timed.get("notes", [])]
    return Table(target=target, engines=engines, choices=choices(engines, right), notes=remarks)


def engine_of(name: str, report: Report, row: Row, timed: dict[str, Any]) -> Engine:
    key = f"{name}/{row.name.key}"
    throughput = [Throughput(**point) for point in timed.get("throughput", {}).get(key, [])]
    why_not = why(row, report)
    again = {
        "id": f"{name}/{row.id}",
        "latency_ms": latency_of(timed, key),
        "throughput": throughput,
        "batch_at_limit": None,
        "speedup": None,
        "speedup_turns": None,
        **speedup_of(timed, key, f"{name}/{EngineName.baseline(row.on).key}"),
        "ships": why_not is None,
    }
    return Engine(
        **{**dict(row), **again},
        model=name,
        minutes=minutes(report),
        best=max(throughput, key=lambda point: point.images_per_s, default=None),
        why_not=why_not,
    )


def why(row: Row, report: Report) -> str | None:
    """Why the engine does not ship; None if it ships."""
    strict = "STRICT requires a pass" if report.gate.strict else None
    if row.network == "baseline":
        return "the baseline, only for comparison"
    if row.ships:
        return None
    if row.status == "built" and strict:
        return f"not measured here, and {strict}"
    if row.drop is None:
        return row.reason or "it is not the candidate"
    gates = [each for each in row.drop.gates if each.verdict == row.standing] or row.drop.gates
    named = [("" if each.name == "top1" else f"{each.name}: ", each) for each in gates]
    if row.standing == "inconclusive":
        may = "; ".join(f"{name}up to {each.upper_95:.2f} points may be lost" for name, each in named)
        doubt = doubts_text(row.drop) or may
        return f"inconclusive ({doubt}), and {strict}"
    return "; ".join(f"{name}loses {each.points:.2f} points; the limit is {each.limit:g}" for name, each in named)


def right_of(run: Path, target: str) -> dict[str, NDArray[np.bool_]]:
    """{row id: for each test image, whether the engine classifies it correctly}."""
    results = [result for result in read_run(run).targets if result.target == target]
    return {str(name): p.first == p.labels for result in results for name, p in result.predicted.items()}


def points(engines: list[Engine]) -> list[Point]:
    def kind(engine: Engine) -> Kind:
        if engine.network == "baseline":
            return "baseline"
        return "unmeasured" if engine.drop is None else "pass" if engine.ships else "fail"

    return [
        Point(
            label=engine.label,
            x=engine.latency_ms.p50 if engine.latency_ms else None,
            y=engine.accuracy.top1 if engine.accuracy else None,
            kind=kind(engine),
        )
        for engine in engines
    ]


def render_comparison(comparison: Comparison, out: Path) -> None:
    """Write the three files into `out`; each appears whole or not at all."""
    figures: list[Drawn] = [drawn(points(table.engines)) for table in comparison.targets]
    write(out / COMPARISON, comparison.model_dump_json(indent=1) + "\n")
    for name in ("compare.md", "compare.html"):
        write(out / name, environment().get_template(f"{name}.j2").render(comparison=comparison, figures=figures))


def comparison_of(out: Path) -> Comparison:
    """The comparison that `render_comparison` wrote into `out`. Raises ValueError if this version cannot read it."""
    try:
        return Comparison.model_validate_json((out / COMPARISON).read_text())
    except ValidationError as error:
        found = problem(error, Comparison)
        raise ValueError(f"{out / COMPARISON} was not written by this version ({found}); run make compare again") from error


def exit_code(comparison: Comparison) -> int:
    """2 if a model has no report; 1 if engines of a target were built and none ships; 3 as `compress`; otherwise 0."""
    if any(model.reason for model in comparison.models):
        return 2
    candidates = {t.target: [engine for engine in t.engines if engine.network == "student"] for t in comparison.targets}
    for engines in candidates.values():
        built = [engine for engine in engines if engine.status != "unavailable"]
        if built and not any(engine.ships for engine in built):
            return 1
    missing = [t for t in comparison.requested if any(engine.status == "unavailable" for engine in candidates.get(t, []))]
    return 3 if missing else 0
