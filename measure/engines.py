"""engines + images -> their predictions (predictions.npz) and latencies (metrics)."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from core import hardware
from core.config import Config
from core.console import progress
from data.loader import Split, batches

Runner = Callable[[np.ndarray], np.ndarray]
Load = Callable[[Path, int], Runner]


class EngineError(Exception):
    """The `engine` of this name cannot be timed, for the `reason`."""

    def __init__(self, engine: str, reason: Exception) -> None:
        super().__init__(f"{engine} cannot be timed: {reason}")
        self.engine, self.reason = engine, reason


class Measure(Config):
    """How engines are measured.

    batch_size     for accuracy
    threads        None: every core this process may use
    queries        timed single-image queries per engine, fewer when they take longer than `seconds`, never below 100
    round          queries in a row in one turn of an engine
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
    queries: int = Field(default=1000, gt=0)
    seconds: float = Field(default=5.0, gt=0)
    round: int = Field(default=100, gt=0)
    warmup: float = Field(default=0.2, ge=0)
    throughput: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32)
    calls: int = Field(default=20, gt=0)
    longest: float = Field(default=3.0, gt=0)


class Predict(Measure):
    """`split`: "val", the images that choose, or "test", those that judge."""

    split: Literal["val", "test"] = "test"


def predict(config: Predict, out: Path, *, load: Load, engine: Path, images: Path) -> dict[str, Any]:
    """Predict every image of the split. `predictions.npz` has the five best classes [N, 5] and the labels [N].

    For unlabelled images (labels -1) there are predictions, but top-1, top-5 and the number of correct ones are None.
    """
    split = Split(images, config.split)
    run = load(engine, config.threads or hardware.cores())
    best = []
    with progress() as bar:
        task = bar.add_task("accuracy", total=len(split))
        for x, _ in batches(split, min(config.batch_size, largest_batch(engine))):
            logits = run(x.numpy())
            best.append(np.argsort(-logits, axis=1, kind="stable")[:, :5].astype(np.int32))
            bar.advance(task, len(x))
    top5 = np.concatenate(best)
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


def latency(
    config: Measure, out: Path, *, load: Load, engines: dict[str, Path], images: Path | dict[str, Path]
) -> dict[str, Any]:
    """Single-stream latency (ms) of engines that take turns, and their throughput by batch size.

    `images` is one folder for all engines, or {engine: folder} if their inputs have different sizes.
    A turn is a warm-up and `round` queries in a row. Turns of all engines alternate, so that a slow minute of the machine
    affects all of them. Within a turn an engine has its own weights in the caches, as on a device that runs one network.

    Raises EngineError for the first engine that fails.
    """
    threads = config.threads or hardware.cores()
    inputs = {name: first(images[name] if isinstance(images, dict) else images, max(1, *config.throughput)) for name in engines}
    runners: dict[str, Runner] = {}
    for name, engine in engines.items():
        with named(name):
            runners[name] = load(engine, threads)
    times: dict[str, list[float]] = {name: [] for name in engines}
    with progress() as bar:
        task = bar.add_task("latency", total=config.queries * len(engines))
        while open_engines := [name for name, taken in times.items() if wants_more(taken, config)]:
            for name in open_engines:
                with named(name):
                    times[name] += timed(runners[name], inputs[name][:1], config.round, config.warmup)
                bar.advance(task, config.round)
    largest = {name: largest_batch(engine) for name, engine in engines.items()}
    return {
        "batch": 1,
        "threads": threads,
        "timed": {name: summary(taken) for name, taken in times.items()},
        "throughput": throughput(config, runners, inputs, largest),
    }


@contextmanager
def named(engine: str) -> Iterator[None]:
    """An error inside becomes an EngineError with the name of the `engine`."""
    try:
        yield
    except Exception as error:
        raise EngineError(engine, error) from error


def first(images: Path, count: int) -> np.ndarray:
    """The first `count` test images, fewer if there are fewer: float32 [N, C, H, W]."""
    x, _ = next(batches(Split(images, "test"), count, limit=count))
    return x.numpy()


def wants_more(taken: list[float], config: Measure) -> bool:
    return len(taken) < config.queries and (len(taken) < 100 or sum(taken) < config.seconds)


def timed(run: Runner, image: np.ndarray, queries: int, warmup: float) -> list[float]:
    """Seconds of each of `queries` calls, after `warmup` seconds of untimed calls."""
    warm(run, image, warmup)
    return [seconds_of(run, image) for _ in range(queries)]


def warm(run: Runner, x: np.ndarray, seconds: float) -> None:
    """Call once, then again until `seconds` have passed."""
    ready = time.perf_counter() + seconds
    run(x)
    while time.perf_counter() < ready:
        run(x)


def seconds_of(run: Runner, x: np.ndarray) -> float:
    started = time.perf_counter()
    run(x)
    return time.perf_counter() - started


def summary(taken: list[float]) -> dict[str, float]:
    milliseconds = 1000 * np.asarray(taken)
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    values = {"p50": p50, "p90": p90, "p99": p99, "mean": milliseconds.mean()}
    return {"n": len(taken), **{key: round(float(value), 4) for key, value in values.items()}}


def throughput(
    config: Measure, runners: Mapping[str, Runner], inputs: Mapping[str, np.ndarray], largest: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """{engine: the points of its curve, by batch size}; at each size all engines take a turn. `inputs` are [N, C, H, W]."""
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    sizes = sorted(set(config.throughput))
    with progress() as bar:
        task = bar.add_task("throughput", total=len(sizes) * len(runners))
        for batch in sizes:
            for name, run in runners.items():
                x = np.resize(inputs[name], (batch, *inputs[name].shape[1:]))
                if batch <= largest[name] and affordable(curves[name], batch, config.longest):
                    with named(name):
                        curves[name].append(throughput_of(run, x, config))
                bar.advance(task)
    return curves


def affordable(points: list[dict[str, Any]], batch: int, longest: float) -> bool:
    """Whether a call with `batch` images is expected to take at most `longest` seconds, at the speed of the last point."""
    return not points or points[-1]["ms"] * batch / points[-1]["batch"] <= 1000 * longest


def throughput_of(run: Runner, x: np.ndarray, config: Measure, seconds: float = 0.3) -> dict[str, Any]:
    """The point of one batch size, from calls during `seconds` or more, at least one. `ms` is the median time of a call."""
    warm(run, x, config.warmup)
    taken = [seconds_of(run, x)]
    while (spent := sum(taken)) < seconds or (len(taken) < config.calls and spent < config.longest):
        taken.append(seconds_of(run, x))
    p50, p90 = 1000 * np.percentile(taken, (50, 90))
    return {
        "batch": len(x),
        "images_per_s": round(len(taken) * len(x) / sum(taken), 1),
        "ms": round(float(p50), 4),
        "p90_ms": round(float(p90), 4),
        "n": len(taken),
    }


def largest_batch(engine: Path) -> int:
    """The largest of the `batches` in the manifest of the build; without `batches` there is no limit."""
    manifest = engine / "manifest.json"
    named = json.loads(manifest.read_text())["metrics"].get("batches") if manifest.exists() else None
    return int(named[-1]) if named else sys.maxsize
