"""The engine that the search finds, beside the engines of a grid of fixed pruning ratios.

    python -m benchmarks.grid --checkpoint FILE --model resnet20 --minutes 600

The search and every ratio are a run of the pipeline on the same checkpoint and images, with the settings of the recipe. All
engines are judged on the same test images and timed in turns. Which ratio is best is known only after all of them were trained
and judged; the search has to do without. Every stage is cached: an interrupted run continues.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.papers import PACKAGES, RUNTIME, is_trained, numbers
from benchmarks.table import OURS, with_section
from core.cache import Artifact, Stages, locked
from core.console import console
from core.engine_name import EngineName
from export.onnx import export_onnx
from measure.judge import judge_of
from measure.verdict import Drop
from pipeline.baseline import baseline_of
from pipeline.builder import EngineBuilder
from pipeline.choose import drop
from pipeline.follow import trained_as
from pipeline.options import Set, changes_of
from pipeline.page import compress
from pipeline.recipe import Recipe, load_recipe
from pipeline.student import Base

COLUMNS = ("engine", "M MACs", "top-1 %", "drop, points (upper 95 %)", "verdict", "p50 ms", "MB", "minutes of training")
TRAINING = ("distill", "quantize_aware")
LEVEL = 1.05  # ratio of the p50 of engines that are as quick as each other


@dataclass(frozen=True)
class Engine:
    """The engine that a run of the pipeline chose.

    named     its name among all engines that are timed
    macs      of its network
    top1      on the test images, percent; `drop` is that against the baseline
    seconds   that the run trained
    p50       milliseconds, measured in turns with all other engines
    """

    name: str
    named: EngineName
    artifact: Artifact
    macs: float
    top1: float
    drop: Drop
    seconds: float
    p50: float = math.nan

    @property
    def size(self) -> float:
        """Bytes."""
        return float(self.artifact.metrics["size_bytes"])

    @property
    def passes(self) -> bool:
        return self.drop.verdict == "pass"


def main(
    checkpoint: Annotated[Path, typer.Option(help="the trained network")],
    model: str = "resnet20",
    data: Annotated[str, typer.Option(help="a data set's name, or a folder of images")] = "cifar10",
    ratios: Annotated[str, typer.Option(help="pruning ratios of the grid, comma-separated")] = "0.2,0.3,0.4,0.5,0.6,0.7",
    minutes: Annotated[float | None, typer.Option(help="no ratio starts that would end after so many minutes")] = None,
    changes: Set = [],  # noqa: B006 - typer reads it and never changes it
    runs: Annotated[Path, typer.Option(help="RUNS/<model> has the cache")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Run the search and every ratio of the grid, and write their engines as a table."""
    ends = math.inf if minutes is None else time.perf_counter() + 60 * minutes
    given = {"data.name": data, **changes_of(changes), "checkpoint": checkpoint}
    searching = load_recipe(model, None, given | {"levels.on": True}, [RUNTIME])
    grid = {
        f"ratio {ratio:g}": load_recipe(model, None, given | {"levels.on": False, "prune.pruning_ratio": ratio}, [RUNTIME])
        for ratio in numbers("--ratios", ratios, float, 0, 1)
    }
    with locked(runs / model):
        found = compared(searching, grid, runs / model / "stages", ends)
        title = f"{model}, the search beside a grid of ratios"
        rows = [cells(engine) for engine in found]
        left = grid.keys() - {engine.named.variant for engine in found}
        lines = [about(searching, found), "", *markdown(rows), "", *summary(found, sorted(left))]
        results.write_text(with_section(results.read_text() if results.exists() else "", title, lines))
    table = Table(*COLUMNS, title=title)
    for texts in rows:
        table.add_row(*texts)
    Console(width=None if console.is_terminal else 200, highlight=False).print(table)
    console.print(f"written to {results}", markup=False)


def compared(searching: Recipe, grid: dict[str, Recipe], root: Path, ends: float) -> list[Engine]:
    """The engine of the search, then those of the `grid`; all timed in turns.

    No ratio starts that would end after `ends` (time.perf_counter()) if it takes as long as the longest one so far.
    """
    step = Stages(root)
    recipe, images, checked, teacher = baseline_of(searching, step)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    base = Base(images, checked, teacher, baseline)
    found = [pressed(f"{OURS}, search", searching, root, base)]
    longest = 0.0
    for name, fixed in grid.items():
        trained = is_trained(trained_as(recipe, fixed), step, base)
        if not trained and time.perf_counter() + longest > ends:
            continue
        console.rule(name)
        started = time.perf_counter()
        found.append(pressed(name, fixed, root, base))
        longest = longest if trained else max(longest, time.perf_counter() - started)
    builder = EngineBuilder.of(recipe, step, RUNTIME, images)
    builder = replace(builder, measure=recipe.measure.model_copy(update={"throughput": (1,)}))
    timed, failed = builder.time_all({engine.named: engine.artifact for engine in found})
    if timed is None or failed:
        raise ValueError(f"engines cannot be timed: {'; '.join(failed.values())}")
    return [replace(engine, p50=timed.metrics["timed"][engine.named.key]["p50"]) for engine in found]


def pressed(name: str, recipe: Recipe, root: Path, base: Base) -> Engine:
    """The engine that the pipeline chooses by `recipe`, judged on the test images."""
    step = Stages(root)
    run = compress(recipe, step)
    result = next(result for result in run.targets if result.target == RUNTIME)
    chosen = result.candidate_name
    if not result.compared:
        raise ValueError(f"{name}: no engine could be judged ({result.unavailable or '; '.join(result.refused.values())})")
    lost = drop(result.predictions, chosen, judge_of(recipe.gate, base.images.path, base.checked.path, "test"))
    assert lost is not None
    exported = {student.variant: student.onnx for student in run.students}[chosen.variant]
    variant = f" ({chosen.variant})" if chosen.variant else ""
    return Engine(
        name=f"{name}{variant}, {chosen.form}",
        named=replace(chosen, variant=name),
        artifact=result.engines[chosen],
        macs=float(exported.metrics["macs"]),
        top1=float(result.predictions[chosen].metrics["top1"]),
        drop=lost,
        seconds=sum(stage.manifest["seconds"] for stage in step.used if stage.manifest["stage"].rpartition(".")[2] in TRAINING),
    )


def cells(engine: Engine) -> list[str]:
    return [
        engine.name,
        f"{engine.macs / 1e6:.2f}",
        f"{engine.top1:.2f}",
        f"{engine.drop.points:+.2f} ({engine.drop.upper_95:+.2f})",
        engine.drop.verdict,
        f"{engine.p50:.3f}",
        f"{engine.size / 1e6:.2f}",
        f"{engine.seconds / 60:.1f}",
    ]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *(f"| {' | '.join(texts)} |" for texts in rows)]


def about(recipe: Recipe, found: Sequence[Engine]) -> str:
    """The conditions, and how the table is to be read."""
    return (
        f"{conditions('benchmarks.grid', PACKAGES)}; {recipe.data.name}, gate {recipe.gate.text}, "
        f"{found[0].drop.n:,} test images; engines on {RUNTIME}.\n\n"
        "Every row is the engine that a run chose on the images that choose, judged on the test images; its drop is against "
        "the FP32 baseline. *Ratio* is the share of the channels that is pruned. *Minutes of training* are those of the "
        "networks that the run made, without the baseline."
    )


def summary(found: Sequence[Engine], left: Sequence[str]) -> list[str]:
    """How many steps of the grid are better than the engine of the search, the time of both, and the ratios `left` out."""
    ours, *grid = found
    passing = [engine for engine in grid if engine.passes]
    ahead = [engine for engine in passing if better(engine, ours)]
    if not passing:
        steps = "no ratio of the grid passes"
    elif not ahead:
        steps = "no ratio of the grid that passes is quicker, or as quick and smaller"
    else:
        best = min(ahead, key=lambda engine: sum(better(other, engine) for other in ahead))
        counted = f"{len(ahead)} step{'s' * (len(ahead) != 1)} of the grid"
        quicker = LEVEL * best.p50 < ours.p50
        behind = f"{ours.p50 / best.p50:.2f} times as long" if quicker else f"{ours.size / best.size:.2f} times as large"
        steps = f"it is {counted} {'slower' if quicker else 'larger'} than the best that passes: {behind} as {best.name}"
    trained = sum(engine.seconds for engine in grid) / 60
    return [
        f"The engine of the search has the verdict {ours.drop.verdict}; {steps}. "
        f"Training took {ours.seconds / 60:.1f} min in the search and {trained:.1f} min for the grid.",
        *([f"There was no time for {', '.join(left)}."] if left else []),
    ]


def better(one: Engine, other: Engine) -> bool:
    """Whether `one` is clearly quicker than `other`, or as quick and smaller."""
    return LEVEL * one.p50 < other.p50 or (one.p50 <= LEVEL * other.p50 and one.size < other.size)


if __name__ == "__main__":
    started_with(main)
