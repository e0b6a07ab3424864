"""Functions that run on several processes: their parts, their errors, their files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from calibration.observe import Calibrate, observe
from core import hardware, ranks
from data.loader import Split, batches
from measure.engines import Predict, predict
from tests.several import Work

IMAGES = 10_001
PRIME = 7  # image i is of class PRIME i mod 10


def numbered(out: Path, like: Path) -> Path:
    """A set of IMAGES whose pixels are their numbers; `like` is a set of grey images."""
    out.mkdir()
    numbers = np.arange(IMAGES)
    pixels = np.zeros((IMAGES, 4, 4, 1), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = numbers // 256, numbers % 256
    np.save(out / "test.images.npy", pixels)
    np.save(out / "test.labels.npy", PRIME * numbers % 10)
    dataset = json.loads((like / "dataset.json").read_text())
    dataset["preprocess"] |= {"input_size": 4, "mean": [0.0], "std": [1.0]}
    dataset |= {"splits": {"train": 0, "val": 0, "test": IMAGES}, "input_shape": [1, 4, 4]}
    (out / "dataset.json").write_text(json.dumps(dataset))
    return out


def load_counting(engine: Path, threads: int) -> Any:
    """An engine that predicts class 5, 6, 7, … for images of class 5, and notes the numbers of its images in a file."""
    seen = engine / f"rank {ranks.rank()}, {threads} threads"

    def run(x: np.ndarray) -> np.ndarray:
        high, low = (np.rint(255 * x[:, 0, 0, column]).astype(int) for column in (0, 1))
        numbers = 256 * high + low
        with seen.open("a") as file:
            print(*numbers, file=file)
        return np.stack([-((np.arange(10) - PRIME * number) % 10) for number in numbers]).astype(np.float32)

    return run


def predicted(given: Path, out: Path) -> dict[str, Any]:
    (out / "part-0-of-5.npz").write_bytes(b"of an interrupted run")
    engine = out / "engine"
    engine.mkdir()
    metrics = predict(Predict(), out, load=load_counting, engine=engine, images=given / "numbered")
    seen = {file.name: [int(word) for word in file.read_text().split()] for file in engine.iterdir()}
    return {**metrics, "seen": seen, "files": sorted(file.name for file in out.iterdir() if file.is_file())}


def calibrated(given: Path, out: Path) -> dict[str, Any]:
    metrics = observe(Calibrate(method="mse", images=150), out, model=given / "onnx", images=given / "images")
    return metrics | {"ranges": json.loads((out / "ranges.json").read_text())}


@ranks.together
def parts(out: Path) -> dict[str, Any]:
    """What every rank has of ten numbers, and of two batches of five images."""
    found = ranks.gather((ranks.rank(), ranks.shard(list(range(10))), hardware.cores()))
    with ranks.main_process_first():
        first = not (out / "first").exists()
        (out / "first").touch()
    return {"parts": found, "first": ranks.gather(first), "size": ranks.size()}


def divided(given: Path, out: Path) -> dict[str, Any]:
    return {**parts(out), "size afterwards": ranks.size(), "cores afterwards": hardware.cores()}


@ranks.together
def batch_parts(images: Path, way: Any) -> list[list[list[int]]]:
    split = Split(images, "test")
    return ranks.gather([y.tolist() for _, y in batches(split, 4, limit=11, divided=way)])


def divided_batches(given: Path, out: Path) -> dict[str, Any]:
    return {str(way): batch_parts(given / "numbered", way) for way in (None, "images", "batches")}


@ranks.together
def failing(culprit: int, out: Path) -> None:
    """One rank raises an error while the others wait for its value."""
    if ranks.rank() == culprit:
        raise ValueError(f"rank {culprit} cannot read {out.name}")
    ranks.gather(None)


def failed(given: Path, out: Path) -> list[str]:
    found = []
    for culprit in range(ranks.processes()):
        try:
            failing(culprit, out)
        except ValueError as error:
            found.append(str(error))
    return found


WORK: Work = {
    "predict": predicted,
    "calibrate": calibrated,
    "parts": divided,
    "batches": divided_batches,
    "errors": failed,
}
