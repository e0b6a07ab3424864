"""The whole way from a checkpoint to an engine, ours and that of other tools, side by side on each runtime.

    python -m benchmarks.whole resnet101=checkpoint.safetensors

The same checkpoint, images and epochs of fine-tuning. "PTQ only": the checkpoint, quantized by the tool. "torch-pruning":
pruned to the MACs of our student, fine-tuned on the labels by our own loop and schedule, then quantized by the tool.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.engines import PACKAGES, chosen, made_by_peers
from benchmarks.plain import PLAIN, Plain, mac_remark, made_by, on_labels, stage_of, torch_pruned
from benchmarks.runtimes import OPEN, Made, compared_on, marked, opened
from benchmarks.table import OURS, markdown, terminal, with_section
from benchmarks.turns import TURNS, Row, ask, take_turns
from compress.distill import distill
from compress.plan import ROUND_TO
from core import hardware
from core.cache import Artifact, Stages, locked
from core.console import console
from core.engine_name import EngineName
from data.loader import Split, batches
from export import targets
from export.onnx import export_onnx
from models.cost import Cost
from pipeline.baseline import baseline_of
from pipeline.options import Set, changes_of, given
from pipeline.page import compress
from pipeline.recipe import Recipe, load_recipe
from pipeline.student import Pressed
from reports.run_folder import TargetResult

TOOLS = ("quantize_static, min-max", "modelopt.onnx", "NNCF, mixed")
QUANTIZING = ("observe", "rank_layers", "place_qdq")
PRESSING = ("derive_student", "search", "prune", "distill", "quantize_aware", *QUANTIZING)


def main(
    models: list[str],
    queries: Annotated[int, typer.Option(help="timed queries per engine")] = 1000,
    test_limit: Annotated[int | None, typer.Option(help="images that accuracy is of; default: all")] = None,
    ratio: Annotated[float, typer.Option(help="share of channels that we prune, without a budget")] = 0.5,
    changes: Set = [],  # noqa: B006 - typer reads it and never changes it
    runs: Annotated[Path, typer.Option(help="RUNS/<model> has the cache of each network")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Press MODELS ("name" or "name=checkpoint", also separated by commas) and compare with the ways of other tools."""
    todo = []
    for name, checkpoint in chosen(models):  # check all inputs before hours are spent
        overrides = {"prune.pruning_ratio": ratio} | changes_of(changes)  # a search would make several students
        overrides |= given(checkpoint=checkpoint or None, data__test_limit=test_limit)
        todo.append((name, load_recipe(name, None, overrides, list(OPEN))))
    for name, recipe in todo:
        title = ", ".join([f"{name}, the whole way", *changes])
        with locked(runs / name):
            section(title, recipe, Stages(runs / name / "stages"), queries, results)


@dataclass(frozen=True)
class Network:
    """An ONNX file, the seconds that pruning and training it took, and what the tools made of it."""

    name: str
    onnx: Artifact
    seconds: float
    files: dict[str, Made]


def section(title: str, recipe: Recipe, step: Stages, queries: int, results: Path) -> None:
    """Go every way and write the section of RESULTS.md. Raises ValueError when there is nothing to train on."""
    pressed = compress(recipe, step)
    results_by_target = {result.target: result for result in pressed.targets}
    by_us = list(step.used)
    recipe, images, _, teacher = baseline_of(recipe, step)
    epochs = sum(a.metrics["epochs"] for a in by_us if stage_of(a) in ("distill", "quantize_aware"))
    student = made_by(step, "prune")
    like = Plain(macs=student.metrics["after"]["macs"], round_to=recipe.prune.round_to or ROUND_TO)
    pruned = step(torch_pruned, like, model=teacher, images=images)
    # The student is passed as its own teacher: training on the labels does not use it, it is only evaluated at the end.
    tuned = step(distill, on_labels(recipe.distill, epochs), label=PLAIN, student=pruned, teacher=pruned, images=images)
    lines = [about(recipe, queries, images, epochs), "", mac_remark(student, pruned), ""]
    with tempfile.TemporaryDirectory() as work:
        networks = []
        for label, model, spent in (
            ("PTQ only", teacher, 0.0), (PLAIN, tuned, pruned.metrics["seconds"] + tuned.manifest["seconds"])
        ):  # fmt: skip
            onnx = step(export_onnx, recipe.export, label=label, model=model, images=images)
            made = made_by_peers(TOOLS, onnx, images, recipe.calibrate.images, Path(work) / label)
            networks.append(Network(label, onnx, spent, made))
        for runtime in OPEN:
            result = results_by_target[runtime]
            if reason := result.unavailable or result.cannot_run:
                lines += [f"### {runtime}", "", f"Not compared: {reason}.", ""]
                continue
            rows = [*ours(recipe, by_us, pressed, result), *theirs(recipe, runtime, networks)]
            runnable = [row for row in rows if row.run is not None]
            ask(runnable, images.path, None)
            take_turns(runnable, next(batches(Split(images.path, "test"), 1))[0].numpy(), queries)
            remarks = [f"{OURS} ships {result.candidate_name.key}."]
            table = terminal(f"{title}, on {runtime}", rows)
            Console(width=None if console.is_terminal else 200, highlight=False).print(table, *remarks, sep="\n")
            lines += markdown(runtime, rows, remarks)
    results.write_text(with_section(results.read_text() if results.exists() else "", title, lines))
    console.print(f"written to {results}", markup=False)


def ours(recipe: Recipe, by_us: list[Artifact], pressed: Pressed, result: TargetResult) -> Iterator[Row]:
    """The checkpoint in FP32 and what the pipeline, whose stages were `by_us`, made of it: in FP32, and what ships."""
    target, threads = targets.get(result.target), recipe.measure.threads or hardware.cores()
    others = [name for name in recipe.targets if name != result.target]
    stages = [a for a in by_us if stage_of(a) in PRESSING and a.manifest["name"].split()[-1] not in others]
    whole = sum(a.manifest["seconds"] for a in stages)
    floats = sum(a.manifest["seconds"] for a in stages if stage_of(a) not in QUANTIZING)
    student = EngineName("student", "fp32", "", result.target)
    for label, name, seconds in (
        ("FP32", result.baseline, None), (f"{OURS}, FP32", student, floats), (OURS, result.candidate_name, whole)
    ):  # fmt: skip
        engine, onnx = result.engines[name], pressed.base.baseline if seconds is None else pressed.students[0].onnx
        yield Row(
            label, target.load(engine.path, threads), seconds=seconds, size=engine.metrics["size_bytes"], cost=cost_of(onnx),
            int8_share=None if name.form == "fp32" else engine.metrics["int8_share"],
        )  # fmt: skip


def cost_of(onnx: Artifact) -> Cost:
    return Cost(params=onnx.metrics["params"], macs=onnx.metrics["macs"])


def theirs(recipe: Recipe, runtime: str, networks: list[Network]) -> Iterator[Row]:
    """What the tools made for this runtime."""
    threads = recipe.measure.threads or hardware.cores()
    for network in networks:
        for tool, made in network.files.items():
            name = f"{network.name}, {tool}"
            if not compared_on(runtime, tool):
                continue
            if isinstance(made, str):
                yield Row(name, why=made, cost=cost_of(network.onnx))
                continue
            file, seconds = made
            for row in marked(opened(runtime, name, file, network.seconds + seconds, threads), runtime, tool):
                row.cost = cost_of(network.onnx)
                row.size = sum(part.stat().st_size for part in file.parent.glob(f"{file.stem}.*"))
                yield row


def about(recipe: Recipe, queries: int, images: Artifact, epochs: int) -> str:
    """The conditions of the benchmark in one sentence."""
    there, packages = images.metrics["splits"], (*PACKAGES, "torch", "torch-pruning")
    return (
        f"{conditions('benchmarks.whole', packages)}; {images.metrics['name']}, {there['train']:,} training images, {epochs} "
        f"epoch(s) of fine-tuning each way, seed {recipe.distill.seed}, {recipe.calibrate.images} calibration images; accuracy "
        f"of {there['test']:,} test images; {TURNS} turns of {-(-queries // TURNS)} queries per engine."
    )


if __name__ == "__main__":
    started_with(main)
