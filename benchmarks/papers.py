"""Accuracy that a pruned network loses after few epochs, by share of MACs, beside published figures.

    python -m benchmarks.papers --checkpoint resnet20=FILE,resnet56=FILE --minutes 600

Every network is pruned, trained and quantized by the pipeline with the settings of its recipe. Only the pruning ratio, the
number of epochs and the seed are set. Every training is a cached stage: an interrupted run continues.
"""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from benchmarks.conditions import RESULTS, conditions, list_of, started_with
from benchmarks.drops import Recovered, cells, markdown, terminal
from benchmarks.engines import chosen
from benchmarks.plain import made_by
from benchmarks.table import OURS, with_section
from compress.derive import derive_student
from compress.distill import distill
from compress.prune import prune
from compress.ratio import Ratio, find_ratio
from core.cache import Artifact, Stages, locked
from core.console import console
from core.engine_name import EngineName
from export import targets
from export.onnx import export_onnx
from pipeline import options
from pipeline.baseline import baseline_of
from pipeline.builder import EngineBuilder
from pipeline.job import Job
from pipeline.launch import Launch
from pipeline.page import press
from pipeline.recipe import Recipe, load_recipe
from pipeline.student import Base

PACKAGES = ("torch", "torch-pruning", "onnxruntime", "numpy")
RUNTIME = "onnxruntime"


def main(
    checkpoint: Annotated[str, typer.Option(help="the networks: resnet20=FILE,resnet56=FILE")],
    data: Annotated[str, typer.Option(help="a data set's name, or a folder of images")] = "cifar10",
    macs: Annotated[str, typer.Option(help="shares of the MACs to remove, comma-separated")] = "0.50,0.61,0.66,0.74",
    epochs: Annotated[str, typer.Option(help="of training after pruning, comma-separated")] = "1,2,5,10,20",
    seeds: Annotated[str, typer.Option(help="of the training, comma-separated")] = "0,1,2",
    minutes: Annotated[float | None, typer.Option(help="no training starts that would end after so many minutes")] = None,
    changes: options.Set = [],  # noqa: B006 - typer reads it and never changes it
    runs: Annotated[Path, typer.Option(help="RUNS/<model> has the cache of each network")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
    launch: options.Launch = "",
) -> None:
    """Prune and train the networks of --checkpoint, and write a table for each; all first seeds come before all second ones."""
    cluster = Launch.of(launch)
    if cluster and minutes is not None:
        raise ValueError("--minutes counts trainings one after the other, and --launch starts them together; pass one of them")
    ends = math.inf if minutes is None else time.perf_counter() + 60 * minutes
    shares = numbers("--macs", macs, float, 0, 1)
    counts, numbered = numbers("--epochs", epochs, int, 0, math.inf), list_of("--seeds", seeds, int)
    recipes = {}
    for name, file in chosen([checkpoint]):
        if not file:
            raise ValueError(f"--checkpoint {name}: expected <model>=FILE, comma-separated")
        whole = {"data.name": data, "data.choose_share": 0}  # published accuracies are of all test images
        recipes[name] = load_recipe(name, None, whole | options.changes_of(changes) | {"checkpoint": file}, [RUNTIME])
    with ExitStack() as stack:
        for name in recipes:
            stack.enter_context(locked(runs / name))
        networks = [begun(name, recipe, runs / name / "stages", shares) for name, recipe in recipes.items()]
        if cluster:
            cluster.check_shared([runs, *(recipe.checkpoint for recipe in recipes.values() if recipe.checkpoint)])
            wanted = product(numbered, counts, networks)
            jobs = [network.job(Cell(ratio, count, seed)) for seed, count, network in wanted for ratio in network.levels]
            cluster.run(jobs, runs / "jobs")
        for seed, count, network in product(numbered, counts, networks):
            for ratio in network.levels:
                network.add(Cell(ratio, count, seed), ends)
            lines = [network.about(shares), "", *markdown(network.rows(len(numbered)))]
            before = results.read_text() if results.exists() else ""
            results.write_text(with_section(before, network.title, lines))
    for network in networks:
        table = terminal(network.title, network.rows(len(numbered)))
        Console(width=None if console.is_terminal else 200, highlight=False).print(table)
    console.print(f"written to {results}", markup=False)


def numbers(flag: str, text: str, kind: type[Any], above: float, below: float) -> list[Any]:
    """The numbers of `text` in order. Raises ValueError for one that is not between `above` and `below`."""
    found = sorted(list_of(flag, text, kind))
    if wrong := [number for number in found if not above < number < below]:
        raise ValueError(
            f"{flag} {wrong[0]}: expected numbers above {above}{f' and below {below}' if below < math.inf else ''}"
        )
    return found


class Cell(NamedTuple):
    """One training: the pruning ratio, epochs and seed."""

    ratio: float
    epochs: int
    seed: int


@dataclass
class Network:
    """One checkpoint and its cells.

    top1       of the checkpoint on the test images, percent
    levels     {pruning ratio: share of the MACs that it removes}
    found      {cell: top-1 of the network in PyTorch and of its INT8 engine}; None where the time did not suffice
    an_epoch   seconds of an epoch of the slowest training so far; `after` of all stages that follow it
    """

    model: str
    recipe: Recipe
    root: Path
    base: Base
    top1: float
    levels: dict[float, float]
    found: dict[Cell, tuple[float, float] | None] = field(default_factory=dict)
    an_epoch: float = 0.0
    after: float = 0.0

    def add(self, cell: Cell, ends: float) -> None:
        """Prune, train and measure, unless that would take until after `ends` (time.perf_counter())."""
        recipe, step, name = self.recipe_of(cell), Stages(self.root), self.name_of(cell)
        takes = 0.0 if is_trained(recipe, step, self.base) else cell.epochs * self.an_epoch + self.after
        self.found[cell] = None
        if time.perf_counter() + takes > ends:
            return
        self.found[cell] = measured(name, recipe, step, self.base)
        training = made_by(step, "distill")
        after = step.used[step.used.index(training) + 1 :]
        self.an_epoch = max(self.an_epoch, training.manifest["seconds"] / cell.epochs)
        self.after = max(self.after, sum(artifact.manifest["seconds"] for artifact in after))

    def job(self, cell: Cell) -> Job:
        """The training of a cell as a job."""
        work = partial(press, self.name_of(cell), self.recipe_of(cell), Stages(self.root), self.base, None)
        return Job(f"{self.model}, {self.name_of(cell)}", work)

    def name_of(self, cell: Cell) -> str:
        return f"{self.levels[cell.ratio]:.1%} fewer MACs, epochs {cell.epochs}, seed {cell.seed}"

    def recipe_of(self, cell: Cell) -> Recipe:
        training = {"epochs": cell.epochs, "min_steps": 0, "minutes": None, "seed": cell.seed}
        distilling = self.recipe.distill.model_copy(update=training)
        pruning = self.recipe.prune.model_copy(update={"pruning_ratio": cell.ratio})
        return self.recipe.model_copy(update={"distill": distilling, "prune": pruning})

    def rows(self, seeds: int) -> list[list[str]]:
        """The texts of the table, with the cells so far."""
        found: dict[tuple[float, int], Recovered] = {}
        for cell, top1 in self.found.items():
            row = found.setdefault((cell.ratio, cell.epochs), Recovered(self.levels[cell.ratio], cell.epochs))
            if top1 is not None:
                row.floats.append(top1[0])
                row.int8.append(top1[1])
        return cells(self.model, self.top1, list(found.values()), seeds)

    @property
    def title(self) -> str:
        return f"{self.model}, drop after few epochs"

    def about(self, shares: list[float]) -> str:
        """The conditions, and how the table is to be read; `shares` are those of the MACs that the user gave."""
        images, training = self.base.images.metrics, self.recipe.distill
        return (
            f"{conditions('benchmarks.papers', PACKAGES)}; {images['name']}, {images['splits']['train']:,} training images, "
            f"batch {training.batch_size}, peak learning rate {training.lr:g}; INT8 engines on {RUNTIME}.\n\n"
            f"*Drop* is top-1 of the checkpoint in PyTorch ({self.top1:.2f} %) minus that of the pruned network, in points, on "
            f"{images['splits']['test']:,} test images: mean (least … greatest) over the seeds, negative where accuracy is "
            f"gained. Rows of {OURS} have the default settings of pruning and training, and the weights of the last epoch: "
            "nothing is chosen on test images. Published accuracies are mostly those of the epoch that was best on the test "
            "images, and start from other checkpoints. *Seeds* counts the trainings that there was time for. "
            f"{', '.join(f'{share:.0%}' for share in shares)} of the MACs were to be removed; channels go in multiples, so a "
            "network lacks the next larger share that its pruning can reach, to within a point."
        )


def begun(name: str, recipe: Recipe, root: Path, shares: list[float]) -> Network:
    """The checkpoint with its accuracy, and the pruning ratios for the `shares` of its MACs."""
    step = Stages(root)
    recipe, images, checked, teacher = baseline_of(recipe, step)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    top1 = in_pytorch(recipe, step, images, EngineName.baseline(targets.REFERENCE), teacher)
    student = step(derive_student, recipe.student, teacher=teacher)
    levels = {}
    for share in shares:
        config = Ratio(**recipe.prune.model_dump(), removed=share)
        level = step(find_ratio, config, label=f"{share:.0%}", model=student, images=images).metrics
        levels[level["pruning_ratio"]] = level["removed"]
    return Network(name, recipe, root, Base(images, checked, teacher, baseline), top1, levels)


def is_trained(recipe: Recipe, step: Stages, base: Base) -> bool:
    """Whether the cache has the trained student of `recipe`."""
    student = step(derive_student, recipe.student, teacher=base.teacher)
    if not step.finished(prune, recipe.prune, model=student, images=base.images):
        return False
    pruned = step(prune, recipe.prune, model=student, images=base.images)
    return step.finished(distill, recipe.distill, student=pruned, teacher=base.teacher, images=base.images)


def measured(name: str, recipe: Recipe, step: Stages, base: Base) -> tuple[float, float]:
    """Top-1 of the student of `recipe` on the test images: in PyTorch, and as the INT8 engine."""
    student = press(name, recipe, step, base, None)
    floats = EngineName("student", "fp32", name, targets.REFERENCE)
    builder = EngineBuilder.of(recipe, step, RUNTIME, base.images)
    int8 = builder.named(student, "int8")
    engine = builder.build(int8, builder.as_built(builder.place(student.onnx, student.ranges)))
    quantized = builder.predict(int8, engine, "test").metrics["top1"]
    return in_pytorch(recipe, step, base.images, floats, student.checkpoint), quantized


def in_pytorch(recipe: Recipe, step: Stages, images: Artifact, name: EngineName, model: Artifact) -> float:
    """Top-1 of `model` on the test images in PyTorch, float32."""
    reference = EngineBuilder.of(recipe, step, targets.REFERENCE, images)
    return float(reference.predict(name, reference.build(name, model), "test").metrics["top1"])


if __name__ == "__main__":
    started_with(main)
