"""Indexing a million files: time and memory of the first time, after an interruption, and where all is in the cache.

    python -m benchmarks.index --files 1000000 --folder /tmp

The tree is simulated: 1,000 classes, a twentieth of the files in val/, PNGs of 8 x 8 pixels in sparse files of 110 kB, so a
million of them need 4 GB of the disk and a million inodes. Every measurement is a process of its own. Memory is the largest
resident memory of any of its processes, with Python and torch (about 270 MB). The system has just written the files and
knows their inodes: on a disk that it has not read before, the first time takes longer.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import with_section
from core.console import console

PACKAGES = ("numpy", "pillow", "torch")
PICTURES = 1000  # different training images; every image of val/ is different from all others
SIZE = 110_000  # bytes, as a file of ImageNet
TESTED = 20  # one of so many files is in val/
MINUTES, SECONDS, MEGABYTES = 3, 3, 1000  # goals: of the first time, of a cached command, of both
INDEX = """
import sys
from pathlib import Path
from core.cache import Stages
from data.index import Data, fingerprint, index
tree, out = sys.argv[1:]
data = Data(name=tree, cache=f"{out}/cache")
Stages(Path(out) / "stages")(index, data, context=fingerprint(data))
"""
# A short training: of a command that is repeated, only the cache is measured.
FEW = ("data.train_limit=64", "data.test_limit=64", "check_images.train_limit=64", "train.epochs=1")


@dataclass(frozen=True)
class Measured:
    """One process: how long it took, how long it and its workers computed, and its largest resident memory."""

    seconds: float
    computed: float
    megabytes: float


def main(
    files: Annotated[int, typer.Option(min=200_000, help="in the tree; a tenth of them is indexed before")] = 1_000_000,
    folder: Annotated[Path | None, typer.Option(help="where the tree is made, and removed at the end")] = None,
    classes: Annotated[int, typer.Option(min=2, help="folders of images in train/ and in val/")] = 1000,
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Make a tree of files, and measure how it is indexed."""
    lines = [f"{conditions('benchmarks.index', PACKAGES)}.", ""]
    lines += ["| files | what | seconds | CPU seconds | largest memory, MB |", "|---|---|---|---|---|"]
    for count in (files // 10, files):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            console.print(f"making {count:,} files", markup=False)
            make_tree(Path(place) / "tree", count, classes)
            found = measurements(Path(place))
        lines += [
            f"| {count:,} | {what} | {one.seconds:.1f} | {one.computed:.1f} | {one.megabytes:.0f} |"
            for what, one in found.items()
        ]
    lines += ["", verdict(found)]
    console.print("\n".join(lines[2:]), markup=False)
    results.write_text(with_section(results.read_text() if results.exists() else "", "Indexing", lines))
    console.print(f"written to {results}", markup=False)


def make_tree(root: Path, files: int, classes: int) -> None:
    """`files` sparse files in `root`/train/<class> and `root`/val/<class>."""
    rng = np.random.default_rng(0)
    pictures = [png(rng) for _ in range(PICTURES)]
    each = files // classes
    tested = each // TESTED
    for number in range(classes):
        for split, count in (("train", each - tested), ("val", tested)):
            place = root / split / f"n{number:08}"
            place.mkdir(parents=True)
            for i in range(count):
                descriptor = os.open(place / f"n{number:08}_{i}.png", os.O_CREAT | os.O_WRONLY)
                os.write(descriptor, pictures[(7 * number + i) % PICTURES] if split == "train" else png(rng))
                os.ftruncate(descriptor, SIZE)
                os.close(descriptor)


def png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def measurements(place: Path) -> dict[str, Measured]:
    """What is measured of the tree `place`/tree, by name."""
    tree, first, again = str(place / "tree"), str(place / "first"), str(place / "again")
    found = {"first index": measured("-c", INDEX, tree, first), "index in the cache": measured("-c", INDEX, tree, first)}
    share = interrupted("-c", INDEX, tree, again)
    name = f"index after an interruption at {100 * share:.0f} % of the folders"
    found[name] = measured("-c", INDEX, tree, again)
    changes = [part for change in (*FEW, f"data.cache={first}/cache") for part in ("--set", change)]
    command = ("-m", "pipeline", "train", "resnet20", "--data", tree, "--out", f"{place}/run", "--input-size", "32", *changes)
    measured(*command)
    found["`make train`, all in the cache"] = measured(*command)
    shutil.rmtree(place / "run")
    return found


def measured(*arguments: str) -> Measured:
    """Run Python with `arguments`. Raises ValueError with its last line if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise ValueError(
                f"python {arguments[0]} … ended with {process.returncode}: {output.read().strip().splitlines()[-1]}"
            )
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)


def interrupted(*arguments: str) -> float:
    """Kill Python with `arguments`, an index, when it has read about half of the folders: the share that it has read."""
    tree, out = Path(arguments[-2]), Path(arguments[-1])
    folders = sum(1 for split in tree.iterdir() for _ in split.iterdir())
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and (read := folders_read(out)) < folders / 2:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return read / folders


def folders_read(out: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in out.glob("cache/folders/*.jsonl"))


def verdict(found: dict[str, Measured]) -> str:
    first, *_, cached = found.values()
    most = max(one.megabytes for one in found.values())
    met = first.seconds < 60 * MINUTES and cached.seconds < SECONDS and most < MEGABYTES
    return (
        f"Goals: the first index within {MINUTES} minutes, a cached command within {SECONDS} seconds, below {MEGABYTES:,} MB: "
        f"{'met' if met else 'missed'}."
    )


if __name__ == "__main__":
    started_with(main)
