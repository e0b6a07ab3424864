"""engine + images -> its predictions (predictions.npz). How engines are measured."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from core import hardware, ranks
from core.config import Config
from core.console import progress
from data.loader import Split, batches
from measure.calls import Load


class Measure(Config):
    """How engines are measured.

    batch_size     for accuracy
    threads        None: every core this process may use
    queries        timed single-image queries per engine, fewer when they take longer than `seconds`, never below 100
    seconds        of timed queries per engine at most
    turns          of every engine at least, all alternating: as many as a claim that one engine is faster needs
    round          queries in a row in one turn of an engine at most: there are more turns where that needs more. None: no limit
    warmup         seconds of untimed queries at the start of every turn. The threads of the previous engine still spin for tens
                   of milliseconds: after 3 queries of warm-up, on 2 cores, a 0.6 ms engine had a p90 of 4.7 ms; after 0.2 s it
                   has the same 0.7 ms as when it runs alone
    throughput     batch sizes of the throughput curve; sizes that an engine was not built for are left out
    calls          timed calls of each of these sizes at least, fewer where they take longer than `longest`
    longest        seconds: the curve of an engine ends before the first batch that is expected to take longer, judged by the
                   previous batch
    """

    batch_size: int = Field(default=50, gt=0)
    threads: int | None = Field(default=None, gt=0)
    queries: int = Field(default=1024, gt=0)
    seconds: float = Field(default=5.0, gt=0)
    turns: int = Field(default=10, ge=10)
    round: int | None = Field(default=None, gt=0)
    warmup: float = Field(default=0.2, ge=0)
    throughput: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32)
    calls: int = Field(default=20, gt=0)
    longest: float = Field(default=3.0, gt=0)

    @property
    def planned_turns(self) -> int:
        """The number of turns of every engine."""
        return max(self.turns, math.ceil(self.queries / self.round) if self.round else 0)


class Predict(Config):
    """`batch_size` and `threads` as in `Measure`. `split`: "val", the images that choose, or "test", those that judge."""

    batch_size: int = Field(default=50, gt=0)
    threads: int | None = Field(default=None, gt=0)
    split: Literal["val", "test"] = "test"


@ranks.together
def predict(config: Predict, out: Path, *, load: Load, engine: Path, images: Path) -> dict[str, Any]:
    """Predict every image of the split. `predictions.npz` has the five best classes [N, 5] and the labels [N].

    Where several ranks predict, each writes those of its images. For unlabelled images (labels -1) there are predictions, but
    top-1, top-5 and the number of correct ones are None.
    """
    split = Split(images, config.split)
    run = load(engine, config.threads or hardware.cores())
    mine = ranks.shard(np.arange(len(split)))
    best = []
    with progress() as bar:
        task = bar.add_task("accuracy", total=len(mine))
        for x, _ in batches(split, min(config.batch_size, largest_batch(engine)), divided="images"):
            logits = run(x.numpy())
            best.append(np.argsort(-logits, axis=1, kind="stable")[:, :5].astype(np.int32))
            bar.advance(task, len(x))
    parts = [out / f"part-{number}-of-{ranks.size()}.npz" for number in range(ranks.size())]
    np.savez(parts[ranks.rank()], images=mine, top5=np.concatenate(best) if best else np.zeros((0, 5), np.int32))
    ranks.main_goes_on()
    top5 = by_image(parts, len(split))
    for part in out.glob("part-*.npz"):  # also of an interrupted run with another number of processes
        part.unlink()
    np.savez_compressed(out / "predictions.npz", top5=top5, labels=split.labels)
    right = top5 == split.labels[:, None]
    n = len(split)
    if not split.dataset.get("labelled", True):
        return {"top1": None, "top5": None, "correct": None, "n": n}
    return {
        "top1": 100 * int(right[:, 0].sum()) / n,
        "top5": 100 * int(right.any(axis=1).sum()) / n,
        "correct": int(right[:, 0].sum()),
        "n": n,
    }


def by_image(parts: list[Path], count: int) -> np.ndarray:
    """The predictions in the files `parts`, in the order of the images: [count, 5]."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in parts:
        with np.load(part) as arrays:
            found.append((arrays["images"], arrays["top5"]))
    images, top5 = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    order = np.argsort(images)
    assert np.array_equal(images[order], np.arange(count)), "an image was predicted twice, or not at all"
    return np.asarray(top5[order])


def largest_batch(engine: Path) -> int:
    """The largest of the `batches` in the manifest of the build; without `batches` there is no limit."""
    manifest = engine / "manifest.json"
    named = json.loads(manifest.read_text())["metrics"].get("batches") if manifest.exists() else None
    return int(named[-1]) if named else sys.maxsize
