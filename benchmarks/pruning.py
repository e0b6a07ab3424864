"""Our pruned student beside plain torch-pruning's: equal MACs, equal fine-tuning, over seeds.

    python -m benchmarks.pruning --model resnet50 --checkpoint FILE --ratios 0.5 --epochs 1 --seeds 0,1,2

To separate pruning from distillation, every network is trained twice: by our distillation, and on the labels alone. Like for
like, networks are compared that were trained in the same way.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.conditions import RESULTS, conditions, list_of, started_with
from benchmarks.plain import CRITERIA, Plain, mac_remark, made_by, on_labels, torch_pruned
from benchmarks.seeds import ALONE, DISTILLED, Trained, markdown, terminal
from benchmarks.table import OURS, with_section
from compress.distill import distill
from compress.plan import ROUND_TO
from core.cache import Artifact, Stages, locked
from core.console import console
from core.engine_name import EngineName
from export import targets
from export.onnx import export_onnx
from pipeline.baseline import baseline_of
from pipeline.builder import EngineBuilder
from pipeline.options import Checkpoint, Set, changes_of, given
from pipeline.page import press
from pipeline.plan import plan
from pipeline.recipe import Recipe, load_recipe
from pipeline.student import Base

PACKAGES = ("torch", "torch-pruning", "numpy")


def main(
    model: str = "resnet50",
    checkpoint: Checkpoint = None,
    ratios: Annotated[str, typer.Option(help="shares of channels that we prune, comma-separated")] = "0.5",
    epochs: Annotated[int, typer.Option(min=1, help="of fine-tuning")] = 1,
    seeds: Annotated[str, typer.Option(help="of the fine-tuning, comma-separated")] = "0,1,2",
    peers: Annotated[str, typer.Option(help="how torch-pruning ranks channels: l2, taylor, or both")] = "l2,taylor",
    peer_residual: Annotated[bool, typer.Option(help="torch-pruning also prunes the channels of the residual stream")] = False,
    train_limit: Annotated[int | None, typer.Option(help="training images; default: all")] = None,
    test_limit: Annotated[int | None, typer.Option(help="test images to measure accuracy on; default: all")] = None,
    changes: Set = [],  # noqa: B006 - typer reads it and never changes it
    runs: Annotated[Path, typer.Option(help="folder of the runs; the cache is in <runs>/<model>")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Compare respress with torch-pruning; --set changes prune.*, budget.* and distill.* of our side."""
    shares, numbers = list_of("--ratios", ratios, float), list_of("--seeds", seeds, int)
    overrides = changes_of(changes) | given(checkpoint=checkpoint, data__train_limit=train_limit, data__test_limit=test_limit)
    overrides |= {"distill.epochs": epochs, "distill.min_steps": 0, "distill.minutes": None, "quantize_aware.epochs": 0}
    peer_settings = [{"importance": name, "residual": peer_residual} for name in criteria(peers)]
    recipes = [load_recipe(model, None, overrides | {"prune.pruning_ratio": share}, []) for share in shares]
    lines: list[str] = []
    with locked(runs / model):
        for share, recipe in zip(shares, recipes, strict=True):
            images, found, remarks = compared(recipe, Stages(runs / model / "stages"), numbers, peer_settings)
            title = f"pruning_ratio {share:g}"
            Console(width=None if console.is_terminal else 200, highlight=False).print(
                terminal(title, found), *remarks, sep="\n"
            )
            lines = lines or [about(recipe, images, numbers), ""]
            lines += markdown(title, found, remarks)
    before = results.read_text() if results.exists() else ""
    results.write_text(with_section(before, f"{model}, pruning at equal MACs", lines))
    console.print(f"written to {results}", markup=False)


def criteria(text: str) -> list[str]:
    """ "l2,taylor" -> the names; ValueError for one that is not in `CRITERIA`."""
    names = text.split(",")
    if unknown := [name for name in names if name not in CRITERIA]:
        raise ValueError(f"--peers {unknown[0]!r}: expected {', '.join(CRITERIA)}, comma-separated")
    return names


def compared(
    recipe: Recipe, step: Stages, seeds: list[int], peers: list[dict[str, Any]]
) -> tuple[Artifact, list[Trained], list[str]]:
    """The images, the trained networks, and the remarks on the MACs of the `peers` (settings of torch-pruning).

    Raises ValueError when there is nothing to train on.
    """
    recipe, images, checked, teacher = baseline_of(recipe, step)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    seeded = recipe.distill.model_copy(update={"seed": seeds[0]})
    base = Base(images, checked, teacher, baseline)
    press("", recipe.model_copy(update={"distill": seeded}), step, base, plan("", recipe, step, base))
    ours = made_by(step, "prune")
    pruned, remarks = {OURS: ours}, []
    for settings in peers:
        like = Plain(macs=ours.metrics["after"]["macs"], round_to=recipe.prune.round_to or ROUND_TO, **settings)
        pruned[like.name] = step(torch_pruned, like, label=like.name, model=made_by(step, "derive_student"), images=images)
        remarks.append(mac_remark(ours, pruned[like.name], like.name))

    alone = on_labels(recipe.distill, recipe.distill.epochs)
    reference = EngineBuilder.of(recipe, step, targets.REFERENCE, images)
    found = []
    for tool, student in pruned.items():
        # Training on the labels alone only evaluates the teacher, once, for a note. The student costs the least time.
        for way, config, guide in ((DISTILLED, recipe.distill, teacher), (ALONE, alone, student)):
            top1, minutes = [], []
            for seed in seeds:
                label, seeded = f"{tool}, {way}, seed {seed}", config.model_copy(update={"seed": seed})
                trained = step(distill, seeded, label=label, student=student, teacher=guide, images=images)
                engine = EngineName("student", "fp32", label, targets.REFERENCE)
                top1.append(float(reference.predict(engine, reference.build(engine, trained), "test").metrics["top1"]))
                minutes.append(trained.manifest["seconds"] / 60)
            found.append(Trained(tool, way, student.metrics["after"], top1, minutes))
    return images, found, remarks


def about(recipe: Recipe, images: Artifact, seeds: list[int]) -> str:
    """The conditions of the benchmark in one sentence."""
    there, training = images.metrics["splits"], recipe.distill
    return (
        f"{conditions('benchmarks.pruning', PACKAGES)}; {images.metrics['name']}, {there['train']:,} training images, top-1 of "
        f"{there['test']:,} test images in PyTorch, float32; every network {training.epochs} epoch(s), batch "
        f"{training.batch_size}, peak learning rate {training.lr:g}, seeds {', '.join(map(str, seeds))}."
    )


if __name__ == "__main__":
    started_with(main)
