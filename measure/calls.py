"""Timed calls of an engine."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np

from data.loader import Split, batches

Runner = Callable[[np.ndarray], np.ndarray]
Load = Callable[[Path, int], Runner]
LEAST = 10  # calls of a turn, however long they take


class EngineError(Exception):
    """The `engine` of this name cannot be timed, for the `reason`."""

    def __init__(self, engine: str, reason: Exception) -> None:
        super().__init__(f"{engine} cannot be timed: {reason}")
        self.engine, self.reason = engine, reason


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


def timed(run: Runner, image: np.ndarray, queries: int, warmup: float, seconds: float = math.inf) -> list[float]:
    """Seconds of each of `queries` calls, after `warmup` seconds of untimed calls.

    The calls end early when they have taken `seconds`, but not before the tenth.
    """
    warm(run, image, warmup)
    taken: list[float] = []
    spent = 0.0
    while len(taken) < queries and (len(taken) < LEAST or spent < seconds):
        taken.append(seconds_of(run, image))
        spent += taken[-1]
    return taken


def warm(run: Runner, x: np.ndarray, seconds: float) -> None:
    """Call once, then again until `seconds` have passed."""
    ready = perf_counter() + seconds
    run(x)
    while perf_counter() < ready:
        run(x)


def seconds_of(run: Runner, x: np.ndarray) -> float:
    started = perf_counter()
    run(x)
    return perf_counter() - started
