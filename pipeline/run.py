"""One network through the page: what it leaves in OUT besides the stages (run.json, the reports, bundle/)."""

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from core import hardware
from core.cache import Stages, locked
from core.environment import machine, now, versions
from export.triton import serves, triton
from pipeline.clock import clock_of
from pipeline.page import compress
from pipeline.recipe import Recipe
from pipeline.student import Pressed
from reports.card import write_card
from reports.on_device import forget_unavailable
from reports.render import render
from reports.run_folder import RunRecord, TargetResult, targets_before
from reports.schema import Environment, Report


@dataclass(frozen=True)
class Run:
    """A finished run: its report, and what it made for each target."""

    report: Report
    targets: Mapping[str, TargetResult]


def run(
    model: str,
    recipe: Recipe,
    wanted: list[str],
    out: Path,
    sweep: Mapping[str, Recipe] | None = None,
    *,
    command: str,
    again: Collection[str] = (),
) -> Run:
    """Press `model` into the folder `out`, or continue where an earlier run stopped; `wanted` are the targets the user named.

    `sweep` as in pipeline/page.py `compress`: recipes by variant, a student each. `command` is what the user typed or called.
    `again` as in core/cache.py `Stages`.
    Raises ValueError for everything the page refuses, and when another run is writing to `out`.
    """
    started = time.perf_counter()
    with locked(out):
        forget_unavailable(out)
        step = Stages(out / "stages", again)

        def save(pressed: Pressed) -> Report:
            """Write what `pressed` has into `out`: the record, the reports, the bundles."""
            RunRecord(
                created=now(),
                command=command,
                seconds=round(time.perf_counter() - started, 1),
                model=model,
                gate=recipe.gate,
                latency_limit=recipe.latency_limit,
                requested=wanted,
                environment=Environment(**machine(), threads=recipe.measure.threads or hardware.cores(), versions=versions()),
                images=pressed.base.images,
                checked=pressed.base.checked,
                baseline=pressed.base.baseline,
                students={student.variant: student.onnx for student in pressed.students},
                stages=step.used,
                targets=list(pressed.targets),
                levels=pressed.levels,
                notes=pressed.notes,
            ).write(out)
            report = render(out)
            publish(report, recipe, pressed, out)
            return report

        pressed = compress(recipe, step, sweep, targets_before(out), clock_of(recipe.minutes, step, out), save)
        report = save(pressed)
    return Run(report, {result.target: result for result in pressed.targets})


def publish(report: Report, recipe: Recipe, pressed: Pressed, out: Path) -> None:
    """Make OUT/bundle exactly what ships: an engine of an earlier run that this report does not name goes."""
    shipped = {row.on for row in report.rows if row.ships}
    shutil.rmtree(out / "bundle", ignore_errors=True)
    for result in pressed.targets:
        if result.target not in shipped:
            continue
        assert result.bundle is not None
        folder = out / "bundle" / result.target
        shutil.copytree(result.bundle.path, folder, ignore=shutil.ignore_patterns("manifest.json"))
        if serves(result.target) and result.candidate:
            name = f"{report.model.replace('/', '.')}-{result.target}"
            triton(recipe.triton, out / "bundle" / "triton", engine=result.engines[result.candidate].path,
                   images=pressed.base.images.path, target=result.target, name=name)  # fmt: skip
    write_card(report, out)
