"""Images per second of our loader for a folder of JPEGs, beside Pillow's decoding alone, in turns.

    python -m benchmarks.loading

Ours decodes, crops at random, scales and flips, in worker processes, and hands over batches on the training device. Pillow only
decodes, in as many processes. Nothing is trained.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import median_of, with_section
from compress.device import device_batches
from core import hardware
from core.console import console
from data.augment import Augment
from data.index import Data, index
from data.loader import Split

PACKAGES = ("torch", "pillow", "numpy")
GOAL = 0.9  # of Pillow's decoding


def main(
    count: Annotated[int, typer.Option(min=8, help="JPEGs")] = 1024,
    side: Annotated[int, typer.Option(min=8, help="of a JPEG and of the network's input, in pixels")] = 224,
    batch: Annotated[int, typer.Option(min=2, help="images of a batch")] = 64,
    turns: Annotated[int, typer.Option(min=1, help="after one that is not counted")] = 5,
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Time the loader on COUNT photographs-like JPEGs."""
    with tempfile.TemporaryDirectory() as work:
        files = photographs(Path(work) / "photos", count, side)
        images = Path(work) / "images"
        images.mkdir()
        index(Data(name=str(Path(work) / "photos"), input_size=side), images)
        split = Split(images, "train", Augment())
        ours, pillow = in_turns([lambda: loaded(split, batch), lambda: decoded(files)], turns)
    ratios = np.divide(ours, pillow)
    met = "met" if np.median(ratios) >= GOAL else "missed"
    lines = [
        f"{conditions('benchmarks.loading', PACKAGES)}; {count:,} JPEGs of {side}x{side} pixels, batch {batch}, "
        f"{hardware.cores()} worker processes; median (least … greatest) of {turns} turns, the ratio within a turn.",
        "",
        f"Ours {speeds(ours)} images/s, Pillow's decoding {speeds(pillow)} images/s; ours / Pillow: {median_of(ratios)}. "
        f"Goal: at least {GOAL}, {met}.",
    ]
    console.print(lines[-1], markup=False)
    text = results.read_text() if results.exists() else ""
    results.write_text(with_section(text, f"Loading JPEGs of {side}x{side}", lines))


def speeds(values: list[float]) -> str:
    return median_of(np.asarray(values), "{:.0f}")


def photographs(folder: Path, count: int, side: int) -> list[Path]:
    """`count` JPEGs of two classes, smooth with some noise as photographs are."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.asarray(coarse, np.int16) + rng.normal(0, 8, (side, side, 3)).astype(np.int16)
        file = folder / f"class {number % 2}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        files.append(file)
    return files


def in_turns(ways: list[Callable[[], float]], turns: int) -> list[list[float]]:
    """What every way returns in `turns` turns, every other one in reverse order; one before them is not counted."""
    found: list[list[float]] = [[] for _ in ways]
    numbered = list(enumerate(ways))
    for turn in range(turns + 1):
        for number, way in numbered if turn % 2 == 0 else reversed(numbered):
            speed = way()
            if turn:
                found[number].append(speed)
    return found


def loaded(split: Split, batch: int) -> float:
    """Images per second of one pass of our loader."""
    seen, started = 0, time.perf_counter()
    for x, _ in device_batches(split, batch, shuffle=True):
        seen += len(x)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - started)


def decoded(files: list[Path]) -> float:
    """Images per second that Pillow decodes in as many processes as our loader has."""
    parts = np.array_split(np.arange(len(files)), hardware.cores() * 8)
    with ProcessPoolExecutor(hardware.cores()) as pool:
        list(pool.map(decode, [files[:1]] * hardware.cores()))  # the processes start before the clock
        started = time.perf_counter()
        list(pool.map(decode, [[files[i] for i in part] for part in parts]))
        return len(files) / (time.perf_counter() - started)


def decode(files: list[Path]) -> None:
    for file in files:
        with Image.open(file) as image:
            image.convert("RGB").load()


if __name__ == "__main__":
    started_with(main)
