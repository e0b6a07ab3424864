"""Images per second of our loader for a folder of JPEGs, beside Pillow's decoding alone, in turns.

    python -m benchmarks.loading

Ours decodes, crops at random, scales and flips, in worker processes, and hands over batches of bytes. Pillow only decodes, in
as many processes, or decodes and crops like ours, and hands over nothing. Nothing is trained.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import median_of, with_section
from core import hardware
from core.console import console
from data.augment import Augment, augmented
from data.index import Data, index
from data.loader import Reading, Split, raw_batches

PACKAGES = ("torch", "pillow", "numpy")
GOAL = 0.9  # of Pillow's decoding


def main(
    count: Annotated[int, typer.Option(min=8, help="JPEGs")] = 1024,
    photo: Annotated[int, typer.Option(min=8, help="side of a JPEG, in pixels")] = 500,
    side: Annotated[int, typer.Option(min=8, help="of the network's input, in pixels")] = 224,
    batch: Annotated[int, typer.Option(min=2, help="images of a batch")] = 64,
    turns: Annotated[int, typer.Option(min=1, help="after one that is not counted")] = 5,
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Time the loader on COUNT photographs-like JPEGs."""
    with tempfile.TemporaryDirectory() as work:
        files = photographs(Path(work) / "photos", count, photo)
        images = Path(work) / "images"
        images.mkdir()
        index(Data(name=str(Path(work) / "photos"), input_size=side), images)
        split = Split(images, "train", Augment())
        alone = partial(by_pillow, files)
        cropping = partial(by_pillow, files, split)
        ours, decoding, whole = in_turns([lambda: loaded(split, batch), alone, cropping], turns)
    ratios = np.divide(ours, decoding)
    met = "met" if np.median(ratios) >= GOAL else "missed"
    lines = [
        f"{conditions('benchmarks.loading', PACKAGES)}; {count:,} JPEGs of {photo}x{photo} pixels, input {side}x{side}, batch "
        f"{batch}, {hardware.cores()} worker processes; median (least … greatest) of {turns} turns, ratios within a turn.",
        "",
        f"Ours {speeds(ours)} images/s; Pillow decodes {speeds(decoding)} images/s, and decodes and crops {speeds(whole)}. "
        f"Ours / decoding: {median_of(ratios)}; ours / decoding and cropping: {median_of(np.divide(ours, whole))}. "
        f"Goal: at least {GOAL} of decoding, {met}.",
    ]
    console.print(lines[-1], markup=False)
    text = results.read_text() if results.exists() else ""
    results.write_text(with_section(text, f"Loading JPEGs of {photo}x{photo}", lines))


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
    for pixels, _ in raw_batches(Reading(split, batch, shuffle=True)):
        seen += len(pixels)
    return seen / (time.perf_counter() - started)


def by_pillow(files: list[Path], split: Split | None = None) -> float:
    """Images per second that Pillow decodes in as many processes as our loader has; with `split`, it also crops like that."""
    parts = [[files[i] for i in part] for part in np.array_split(np.arange(len(files)), hardware.cores() * 8)]
    with ProcessPoolExecutor(hardware.cores(), multiprocessing.get_context("fork")) as pool:
        list(pool.map(decode, [files[:1]] * hardware.cores()))  # the processes start before the clock
        started = time.perf_counter()
        list(pool.map(partial(decode, split=split), parts))
        return len(files) / (time.perf_counter() - started)


def decode(files: list[Path], split: Split | None = None) -> None:
    rng = np.random.default_rng(0)
    for file in files:
        with Image.open(file) as image:
            pixels = image.convert("RGB")
        if split is not None and split.augment is not None:
            augmented(pixels, split.spec, split.augment, rng)


if __name__ == "__main__":
    started_with(main)
