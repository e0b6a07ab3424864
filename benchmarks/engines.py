"""INT8 engines of one FP32 network, made by us and by the runtimes' own tools, side by side on each runtime.

    python -m benchmarks.engines resnet18 resnet50 resnet101
    python -m benchmarks.engines resnet50=checkpoint.safetensors

Without a checkpoint the baseline is that of `make compress MODEL=…`: from its cache where it has run, else trained now.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.peers import TOOLS, quantized
from benchmarks.runtimes import Made, rows_of
from benchmarks.table import goal, markdown, terminal, with_section
from benchmarks.turns import TURNS, ask, take_turns
from core.cache import Artifact, Stages, locked
from core.console import console
from core.profile import here
from core.text import one_line
from data.index import fingerprint, index
from data.loader import Split, batches
from export import targets
from export.onnx import export_onnx
from pipeline.baseline import baseline_of
from pipeline.recipe import Recipe, load_recipe

PACKAGES = ("onnxruntime", "openvino", "nncf", "nvidia-modelopt", "onnx", "numpy")
# FP32 / INT8 of a ResNet-50 at 224x224 on a CPU with VNNI: what the project promises.
GOALS = {"onnxruntime": 2.7, "openvino": 3.2}
LARGE = {"data.input_size": 224, "data.resize": "squash"}  # --input-size 224 --resize squash: enlarged, not padded


def main(
    models: list[str],
    queries: Annotated[int, typer.Option(help="timed queries per engine")] = 1000,
    large_queries: Annotated[int, typer.Option(help="the same at 224x224")] = 300,
    large: Annotated[str, typer.Option(help="the one of the networks that is timed at 224x224, too")] = "resnet50",
    images: Annotated[int, typer.Option(help="that calibrate")] = 512,
    test_limit: Annotated[int | None, typer.Option(help="images that accuracy is of; default: all")] = None,
    runs: Annotated[Path, typer.Option(help="RUNS/<model> has the cache of each network")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Compare the INT8 engines of MODELS ("name" or "name=checkpoint", also separated by commas)."""
    todo: list[tuple[str, Recipe, Recipe]] = []
    for name, checkpoint in chosen(models):  # what can fail, fails before hours are spent
        changes: dict[str, Any] = {"calibrate.images": images} | ({"checkpoint": checkpoint} if checkpoint else {})
        recipe, wide = (load_recipe(name, None, changes | more, list(GOALS)) for more in ({}, LARGE))
        todo.append((name, recipe, wide))
    for name, recipe, wide in todo:
        with locked(runs / name):
            step = Stages(runs / name / "stages")
            _, data, _, teacher = baseline_of(recipe, step)
            section(recipe, step, name, teacher, data, queries, (test_limit,), results)
            if name == large:
                data = step(index, wide.data, context=fingerprint(wide.data), network=teacher)
                section(wide, step, name, teacher, data, large_queries, None, results)


def chosen(models: list[str]) -> list[tuple[str, str]]:
    """["resnet18,resnet50=FILE"] -> the names and their checkpoints, "" where none is given."""
    parts = [part.partition("=") for argument in models for part in argument.split(",") if part]
    return [(name, checkpoint) for name, _, checkpoint in parts]


def section(
    recipe: Recipe, step: Stages, name: str, teacher: Artifact, images: Artifact, queries: int,
    accuracy: tuple[int | None] | None, results: Path,
) -> None:  # fmt: skip
    """Compare on every runtime and write the section of RESULTS.md; `accuracy` is None, or how many images to ask at most."""
    side = images.metrics["input_shape"][-1]
    model = step(export_onnx, recipe.export, label=f"baseline {side}x{side}", model=teacher, images=images)
    lines = [about(recipe, queries, images, accuracy), ""]
    if accuracy is None:
        lines += ["No accuracy: these weights were trained at another size, here they are only timed.", ""]
    with tempfile.TemporaryDirectory() as work:
        able = [tool for tool, how in TOOLS.items() if how.large or accuracy is not None]
        files = made_by_peers(able, model, images, recipe.calibrate.images, Path(work))
        for runtime in GOALS:
            if reason := targets.get(runtime).unavailable():
                lines += [f"### {runtime}", "", f"Not compared: {reason}.", ""]
                continue
            rows = rows_of(recipe, step, runtime, model, images, files)
            runnable = [row for row in rows if row.run is not None]
            if accuracy is not None:
                ask(runnable, images.path, *accuracy)
            take_turns(runnable, next(batches(Split(images.path, "test"), 1))[0].numpy(), queries)
            promised = name == "resnet50" and side == 224 and not here().reduce_range
            remarks = [goal(rows, GOALS[runtime])] if promised else []
            table = terminal(f"{name} at {side}x{side} on {runtime}", rows)
            Console(width=None if console.is_terminal else 160, highlight=False).print(table, *remarks, sep="\n")
            lines += markdown(runtime, rows, remarks)
    results.write_text(with_section(results.read_text() if results.exists() else "", f"{name}, {side}x{side}", lines))
    console.print(f"written to {results}", markup=False)


def made_by_peers(tools: Iterable[str], model: Artifact, images: Artifact, count: int, work: Path) -> dict[str, Made]:
    """What each of the `tools` made of the ONNX file `model` with `count` images, in a folder of its own in `work`."""
    found: dict[str, Made] = {}
    for number, name in enumerate(tools):
        console.print(f"[bold]{name}[/bold]")
        try:
            found[name] = quantized(name, model.path, images.path, count, work / str(number))
        except RuntimeError as failure:  # a peer that fails is a result, not the end of the comparison
            found[name] = one_line(failure)[:120]
    return found


def about(recipe: Recipe, queries: int, images: Artifact, accuracy: tuple[int | None] | None) -> str:
    """When, with what and how."""
    there = images.metrics["splits"]["test"]
    measured = "" if accuracy is None else f" accuracy of {min(there, accuracy[0] or there):,} test images;"
    return (
        f"{conditions('benchmarks.engines', PACKAGES)}; {images.metrics['name']}, {recipe.calibrate.images} calibration images;"
        f"{measured} {TURNS} turns of {-(-queries // TURNS)} queries per engine."
    )


if __name__ == "__main__":
    started_with(main)
