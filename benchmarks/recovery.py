"""What recovers the accuracy of a pruned network best: losses and learning rates at equal epochs, over several seeds.

    python -m benchmarks.recovery --checkpoint resnet20=FILE --jobs 6

Only the images that choose are predicted: what is best here may become the default, and the images that judge stay unseen.
Every training is a cached stage: an interrupted run continues. All first seeds come before all second ones.
"""

import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.at_once import at_once
from benchmarks.conditions import RESULTS, conditions, list_of, started_with
from benchmarks.engines import chosen
from benchmarks.papers import RUNTIME, numbers
from benchmarks.table import with_section
from compress.derive import derive_student
from compress.distill import Distill, distill
from compress.prune import prune
from compress.ratio import Ratio, find_ratio
from core.cache import Artifact, Stages, locked
from core.console import console
from core.text import spread
from pipeline.baseline import baseline_of
from pipeline.options import Set, changes_of
from pipeline.recipe import Recipe, load_recipe

PACKAGES = ("torch", "torch-pruning", "numpy")
# The weights of cross-entropy and of the teacher in the papers, scaled to a sum of 1.
WAYS: dict[str, dict[str, Any]] = {
    "squared logits": {},
    "squared logits, averaged weights": {"ema": 0.998},
    "KL, T = 4": {"loss": "kl", "temperature": 4.0},
    "KL of standardized logits, T = 2": {"loss": "kl", "temperature": 2.0, "standardize": True},
    "DIST, T = 4": {"loss": "dist", "temperature": 4.0, "alpha": 2 / 3},
    "cross-entropy": {"alpha": 0.0},
}


class Cell(NamedTuple):
    """One training."""

    network: str
    removed: float
    way: str
    lr: float
    epochs: int
    seed: int


class Pressed(NamedTuple):
    """A checkpoint, its pruned network, its images, and its own top-1 on the images that choose, in percent."""

    store: Path
    teacher: Artifact
    pruned: Artifact
    images: Artifact
    top1: float
    defaults: Distill


def main(
    checkpoint: Annotated[str, typer.Option(help="the networks: resnet20=FILE,resnet56=FILE")],
    data: Annotated[str, typer.Option(help="a data set's name, or a folder of images")] = "cifar10",
    macs: Annotated[str, typer.Option(help="shares of the MACs to remove, comma-separated")] = "0.50,0.74",
    epochs: Annotated[str, typer.Option(help="of a training, comma-separated")] = "1,2,5,10",
    rates: Annotated[str, typer.Option(help="peak learning rates, comma-separated")] = "0.02,0.1",
    ways: Annotated[str, typer.Option(help="losses, comma-separated numbers: 0 is the default")] = "0,1,2,3,4,5",
    seeds: Annotated[str, typer.Option(help="of the training, comma-separated")] = "0,1,2",
    jobs: Annotated[int, typer.Option(min=1, help="trainings at the same time, each in a process")] = 1,
    minutes: Annotated[float | None, typer.Option(help="no training starts after so many minutes")] = None,
    changes: Set = [],  # noqa: B006 - typer reads it and never changes it
    runs: Annotated[Path, typer.Option(help="RUNS/<model> has the cache of each network")] = Path("runs/recovery"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Train the pruned networks in every way, and write a table for each."""
    ends = time.time() + 60 * minutes if minutes else None
    shares = numbers("--macs", macs, float, 0, 1)
    names = [list(WAYS)[int(number)] for number in numbers("--ways", ways, int, -1, len(WAYS))]
    settings = {"data.name": data, "distill.control": False} | changes_of(changes)
    recipes = {}
    for name, file in chosen([checkpoint]):
        if not file:
            raise ValueError(f"--checkpoint {name}: expected <model>=FILE, comma-separated")
        recipes[name] = load_recipe(name, None, settings | {"checkpoint": file}, [RUNTIME])
    grid = product(
        list_of("--seeds", seeds, int), numbers("--epochs", epochs, int, 0, 10**6), recipes, shares, names,
        numbers("--rates", rates, float, 0, 10),
    )  # fmt: skip
    cells = [Cell(network, removed, way, lr, count, seed) for seed, count, network, removed, way, lr in grid]
    with ExitStack() as stack:
        for name in recipes:
            stack.enter_context(locked(runs / name))
        pressed = {
            (name, share): prepared(recipe, runs / name / "stages", share)
            for name, recipe in recipes.items()
            for share in shares
        }
        found: dict[Cell, float] = {}
        calls = [(cell, pressed[cell.network, cell.removed], ends) for cell in cells]
        for cell, top1 in zip(cells, at_once(jobs, recovered, calls), strict=True):
            if top1 is not None:
                found[cell] = top1
                write(results, found, pressed)
    console.print(f"written to {results}", markup=False)


def prepared(recipe: Recipe, store: Path, share: float) -> Pressed:
    """The checkpoint of `recipe`, pruned by a `share` of its MACs."""
    step = Stages(store)
    recipe, images, _, teacher = baseline_of(recipe, step)
    student = step(derive_student, recipe.student, teacher=teacher)
    ratio = Ratio(**recipe.prune.model_dump(), removed=share)
    level = step(find_ratio, ratio, label=f"{share:.0%}", model=student, images=images).metrics
    pruning = recipe.prune.model_copy(update={"pruning_ratio": level["pruning_ratio"]})
    pruned = step(prune, pruning, label=f"{share:.0%}", model=student, images=images)
    return Pressed(store, teacher, pruned, images, pruned.metrics["val_top1"]["unpruned"], recipe.distill)


def recovered(cell: Cell, pressed: Pressed, ends: float | None) -> float | None:
    """Top-1 of the trained network on the images that choose, percent; None if its training would start after `ends`."""
    settings = {"lr": cell.lr, "epochs": cell.epochs, "seed": cell.seed, "min_steps": 0, "minutes": None, **WAYS[cell.way]}
    config = Distill(**(pressed.defaults.model_dump() | settings))
    step = Stages(pressed.store)
    inputs = {"student": pressed.pruned, "teacher": pressed.teacher, "images": pressed.images}
    if ends and time.time() > ends and not step.finished(distill, config, **inputs):
        return None
    return float(step(distill, config, label=" ".join(map(str, cell)), **inputs).metrics["val_top1"])


def write(results: Path, found: dict[Cell, float], pressed: dict[tuple[str, float], Pressed]) -> None:
    """One section for each network and share of MACs."""
    for (network, share), one in pressed.items():
        own = {cell: top1 for cell, top1 in found.items() if (cell.network, cell.removed) == (network, share)}
        before, after = (one.pruned.metrics[key]["macs"] for key in ("before", "after"))
        counts = sorted({cell.epochs for cell in own})
        head = ["loss", "peak rate", *(f"{count} epoch{'s' * (count > 1)}" for count in counts), "seeds"]
        lines = [
            f"{conditions('benchmarks.recovery', PACKAGES)}; {one.images.metrics['name']}, "
            f"{one.images.metrics['splits']['val']:,} images that choose, {one.top1:.2f} % before pruning, "
            f"{one.pruned.metrics['val_top1']['norm_reestimated']:.2f} % after it. Drop in points: mean (least … greatest).",
            "",
            f"| {' | '.join(head)} |",
            f"|{'---|' * len(head)}",
        ]
        for way, lr in dict.fromkeys((cell.way, cell.lr) for cell in own):
            drops = {
                count: [one.top1 - top1 for cell, top1 in own.items() if cell[2:5] == (way, lr, count)] for count in counts
            }
            number = sorted({len(values) for values in drops.values()})
            lines.append(f"| {' | '.join([way, f'{lr:g}', *map(text, drops.values()), ' to '.join(map(str, number))])} |")
        title = f"{network} without {1 - after / before:.1%} of its MACs, recovery"
        results.write_text(with_section(results.read_text() if results.exists() else "", title, lines))


def text(drops: list[float]) -> str:
    return spread(float(np.mean(drops)), min(drops), max(drops), "{:+.2f}") if drops else ""


if __name__ == "__main__":
    started_with(main)
