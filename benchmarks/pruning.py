"""Our pruned student beside plain torch-pruning's: equal MACs, equal fine-tuning, over seeds.

    python -m benchmarks.pruning --model resnet50 --checkpoint FILE --ratios 0.5 --epochs 1 --seeds 0,1,2

To separate pruning from distillation, both networks are trained twice: by our distillation, and on the labels alone.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.plain import PLAIN, Plain, mac_remark, made_by, on_labels, torch_pruned
from benchmarks.seeds import Trained, markdown, terminal
from benchmarks.table import OURS, with_section
from compress.distill import Distill, distill
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
    recipes = [load_recipe(model, None, overrides | {"prune.pruning_ratio": share}, []) for share in shares]
    lines: list[str] = []
    with locked(runs / model):
        for share, recipe in zip(shares, recipes, strict=True):
            images, found, remark = compared(recipe, Stages(runs / model / "stages"), numbers)
            title = f"pruning_ratio {share:g}"
            Console(width=None if console.is_terminal else 200, highlight=False).print(terminal(title, found), remark, sep="\n")
            lines = lines or [about(recipe, images, numbers), ""]
            lines += markdown(title, found, remark)
    before = results.read_text() if results.exists() else ""
    results.write_text(with_section(before, f"{model}, pruning at equal MACs", lines))
    console.print(f"written to {results}", markup=False)


def list_of(flag: str, text: str, kind: type[Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{flag} {text!r}: expected numbers, comma-separated") from error


def compared(recipe: Recipe, step: Stages, seeds: list[int]) -> tuple[Artifact, list[Trained], str]:
    """The images, the trained networks, and the remark on torch-pruning's MACs.

    Raises ValueError when there is nothing to train on.
    """
    images, checked, teacher = baseline_of(recipe, step)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    seeded = recipe.distill.model_copy(update={"seed": seeds[0]})
    base = Base(images, checked, teacher, baseline)
    press("", recipe.model_copy(update={"distill": seeded}), step, base, plan("", recipe, step, base))
    ours = made_by(step, "prune")
    like = Plain(macs=ours.metrics["after"]["macs"], round_to=recipe.prune.round_to or ROUND_TO)
    plain = step(torch_pruned, like, model=made_by(step, "derive_student"), images=images)

    taught, alone = recipe.distill, on_labels(recipe.distill, recipe.distill.epochs)
    ways: dict[str, tuple[Artifact, Distill]] = {
        OURS: (ours, taught),
        f"{OURS}, on the labels alone": (ours, alone),
        PLAIN: (plain, alone),
        f"{PLAIN}, distilled by {OURS}": (plain, taught),
    }
    reference = EngineBuilder.of(recipe, step, targets.REFERENCE, images)
    found = []
    for name, (student, config) in ways.items():
        top1, minutes = [], []
        for seed in seeds:
            # Training on the labels alone only evaluates the teacher, once, for a note. The student costs the least time.
            guide, label = student if config is alone else teacher, f"{name}, seed {seed}"
            seeded = config.model_copy(update={"seed": seed})
            trained = step(distill, seeded, label=label, student=student, teacher=guide, images=images)
            engine = EngineName("student", "fp32", label, targets.REFERENCE)
            top1.append(float(reference.predict(engine, reference.build(engine, trained)).metrics["top1"]))
            minutes.append(trained.manifest["seconds"] / 60)
        found.append(Trained(name, student.metrics["after"], top1, minutes))
    return images, found, mac_remark(ours, plain)


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
