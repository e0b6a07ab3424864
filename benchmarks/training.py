"""Speed of our training loop beside a bare PyTorch loop: images per second, in turns.

    python -m benchmarks.training --model resnet56 --turns 5

Both train the same network with cross-entropy in the same precision, with the same batches and the same optimizer. Ours is
`fit`, one epoch of it: it reads, moves and flips the images, and saves the epoch. The bare loop has the same moved and flipped
images ready in memory; it runs once in each layout of memory, on a GPU also with torch.compile, and ours has to stand against
the fastest one.
"""

import copy
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import OURS, median_of, with_section
from compress.cut import cut
from compress.device import device_and_precision
from compress.fit import Task, fit
from compress.plan import Cut
from compress.schedule import Schedule, optimizer_for
from core.console import console
from data.augment import Augment
from data.index import NAMED, Data, describe, preprocessing
from data.loader import Batch, Split, batches
from models.cost import cost
from models.resnet import ResNet, family_spec, initialise

PACKAGES = ("torch", "numpy")
GOAL = 0.95  # of the faster bare loop
DATA, SHIFT = "cifar10", 4
SMALL = 64  # pixels: larger images get the stem of ImageNet
LAYOUTS = {"channels_last": torch.channels_last, "[N, C, H, W]": torch.contiguous_format}


@dataclass
class Way:
    """One way to train: its name, and the images per second of every turn."""

    name: str
    speeds: list[float] = field(default_factory=list)


def main(
    model: str = "resnet56",
    ratio: Annotated[float, typer.Option(min=0, max=0.99, help="share of the channels to prune first")] = 0.0,
    batch: Annotated[int, typer.Option(min=2, help="images of a step")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="of a turn")] = 60,
    turns: Annotated[int, typer.Option(min=1, help="after one that is not counted")] = 5,
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the images of a turn")] = 1,
    side: Annotated[int, typer.Option(min=8, help="of the images, in pixels")] = 32,
) -> None:
    """Time the training of MODEL on random square images."""
    network = network_of(model, ratio, side)
    schedule = Schedule(epochs=epochs, batch_size=batch, augment=Augment(flip=True, shift=SHIFT))
    ways = compared(network, schedule, steps, turns, model, side)
    pruned, scaled = f" without {ratio:.0%} of its channels" if ratio else "", f" at {side}x{side}" if side != 32 else ""
    title = f"{model}{pruned}{scaled}, training speed{on_gpu()}"
    lines = [about(network, schedule, steps, turns, side), "", *markdown(ways), "", goal(ways)]
    table = Table(*columns(), title=title)
    for texts in cells(ways):
        table.add_row(*texts)
    Console(width=None if console.is_terminal else 160, highlight=False).print(table, goal(ways), sep="\n")
    results.write_text(with_section(results.read_text() if results.exists() else "", title, lines))
    console.print(f"written to {results}", markup=False)


def on_gpu() -> str:
    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def network_of(model: str, ratio: float, side: int) -> nn.Module:
    """An untrained member of the family for images of that size, without the share `ratio` of its channels."""
    torch.manual_seed(0)
    spec = family_spec(model, num_classes=len(NAMED[DATA]["classes"]), stem="small" if side <= SMALL else "imagenet")
    network = ResNet(spec)
    initialise(network)
    return cut(network, spec, Cut(pruning_ratio=ratio), (3, side, side)) if ratio else network


def compared(network: nn.Module, schedule: Schedule, steps: int, turns: int, label: str, side: int = 32) -> list[Way]:
    """Ours and the bare loop in each layout, in turns; every other turn in reverse order."""
    bare: dict[str, dict[str, Any]] = {name: {"layout": layout} for name, layout in LAYOUTS.items()}
    if torch.cuda.is_available():
        bare["torch.compile"] = {"layout": torch.channels_last, "compiled": True}
    ways = [Way(OURS), *(Way(f"bare loop, {name}") for name in bare)]
    with tempfile.TemporaryDirectory() as work:
        images = Path(work) / "images"
        random_images(images, schedule.batch_size * steps, side)
        ready = list(batches(Split(images, "train", schedule.augment), schedule.batch_size, shuffle=True))
        runs: list[Callable[[nn.Module], float]] = [lambda model: product_seconds(model, schedule, images, label)]
        for how in bare.values():
            runs.append(partial(bare_seconds, schedule=schedule, ready=ready, **how))
        todo = list(zip(ways, runs, strict=True))
        for turn in range(turns + 1):
            for way, run in todo if turn % 2 == 0 else reversed(todo):
                seconds = run(copy.deepcopy(network))
                if turn:  # the first turn only warms up
                    way.speeds.append(schedule.batch_size * steps * schedule.epochs / seconds)
    return ways


def random_images(out: Path, count: int, side: int = 32) -> None:
    """A data set of `count` square training images; no image is held out."""
    out.mkdir()
    rng, known = np.random.default_rng(0), NAMED[DATA]
    chosen = {"train": np.arange(count), "val": np.arange(0), "test": np.arange(0)}
    for name, indices in chosen.items():
        np.save(out / f"{name}.images.npy", rng.integers(0, 256, (len(indices), side, side, 3), np.uint8))
        np.save(out / f"{name}.labels.npy", rng.integers(0, len(known["classes"]), len(indices)))
    spec = preprocessing(Data(name=DATA, input_size=side), None, known["preprocess"])
    (out / "dataset.json").write_text(json.dumps(describe("random", "array", known["classes"], spec, chosen, "train")))


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def product_seconds(model: nn.Module, schedule: Schedule, images: Path, label: str) -> float:
    """Seconds of `fit`, which trains `model`."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        fit(Task(model, loss, images, f"train {label}"), schedule, Path(out))
        return time.perf_counter() - started


def bare_seconds(
    model: nn.Module, schedule: Schedule, ready: list[Batch], layout: torch.memory_format, compiled: bool = False
) -> float:
    """Seconds of the epochs over the batches `ready`, which are on the device in `layout` before the clock starts."""
    device, dtype = device_and_precision()
    model.train()
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks memory_format
    optimizer = optimizer_for(model, schedule, lambda name: schedule.lr)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    run: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]  # it is a module
    on_device = [(x.to(device, memory_format=layout), y.to(device)) for x, y in ready]
    total = torch.zeros((), device=device)
    started = time.perf_counter()
    for x, y in on_device * schedule.epochs:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            value = loss(run, x, y)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        total += value.detach()
    float(total)  # waits for a GPU
    return time.perf_counter() - started


def columns() -> tuple[str, ...]:
    return ("loop", "images/s", f"{OURS} / it")


def cells(ways: list[Way]) -> list[list[str]]:
    """One list of texts per way: medians over the turns, with the least and the greatest."""
    ours, *bare = ways
    rows = [[ours.name, speed_of(ours), ""]]
    return rows + [[way.name, speed_of(way), median_of(np.divide(ours.speeds, way.speeds))] for way in bare]


def speed_of(way: Way) -> str:
    return f"{np.median(way.speeds):.0f} ({min(way.speeds):.0f} … {max(way.speeds):.0f})"


def markdown(ways: list[Way]) -> list[str]:
    lines = [f"| {' | '.join(columns())} |", f"|{'---|' * len(columns())}"]
    return lines + [f"| {' | '.join(texts)} |" for texts in cells(ways)]


def goal(ways: list[Way]) -> str:
    """Whether ours is at least `GOAL` times as fast as the faster bare loop, by the median of the turns."""
    ours, *bare = ways
    fastest = max(bare, key=lambda way: float(np.median(way.speeds)))
    factor = np.divide(ours.speeds, fastest.speeds)
    met = "met" if np.median(factor) >= GOAL else "missed"
    return f"{OURS} / {fastest.name}: {median_of(factor)}. Goal: at least {GOAL}, {met}."


def about(network: nn.Module, schedule: Schedule, steps: int, turns: int, side: int) -> str:
    """The conditions of the benchmark in one sentence."""
    device, dtype = device_and_precision()
    macs, precision = cost(network, (3, side, side))["macs"], str(dtype).removeprefix("torch.")
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return (
        f"{conditions('benchmarks.training', PACKAGES)}; {macs / 1e6:.1f} M MACs an image; random images of {side}x{side} "
        f"pixels, flipped and moved by up to {SHIFT} pixels; cross-entropy, batch {schedule.batch_size}, {precision} on "
        f"{device_name}, {torch.get_num_threads()} threads; median (least … greatest) of {turns} turns of "
        f"{steps * schedule.epochs} steps, ratios within a turn."
    )


if __name__ == "__main__":
    started_with(main)
