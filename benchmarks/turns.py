"""Engines that take turns: their predictions and latencies, and comparisons of two engines turn by turn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.loader import Split, batches
from measure.calls import timed
from measure.statistics import tango_interval
from models.cost import Cost

Runner = Callable[[np.ndarray], np.ndarray]
# In 9 of 10 turns the quicker one: by chance in 2 of 100 comparisons of equals (sign test, two-sided).
TURNS, CLEARLY, WARMUP = 10, 9, 0.2


@dataclass
class Row:
    """One engine. `run` is None where a tool failed, `why` says how; `seconds` is what making it took, None where it was given.

    placed_for   the runtime that its file is placed for, where it is measured on another one
    size, cost   bytes of its file, and what its network costs, where rows are of several networks
    right        [N]: whether it was right about each test image
    turns        [TURNS, queries]: seconds
    """

    name: str
    run: Runner | None = None
    why: str = ""
    int8_share: float | None = None
    seconds: float | None = None
    placed_for: str = ""
    size: int | None = None
    cost: Cost | None = None
    right: np.ndarray | None = None
    turns: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> np.ndarray:
        """p50 of each turn, ms."""
        return np.array([1000 * np.median(turn) for turn in self.turns])

    @property
    def p50(self) -> float:
        """Of all queries, ms."""
        return 1000 * float(np.median(self.turns))


def ask(rows: list[Row], images: Path, limit: int | None) -> None:
    """Fill in `right` for the (first `limit`) test images."""
    right: dict[str, list[np.ndarray]] = {row.name: [] for row in rows}
    for x, y in batches(Split(images, "test"), 100, limit=limit):
        for row in rows:
            assert row.run is not None
            right[row.name].append(row.run(x.numpy()).argmax(1) == y.numpy())
    for row in rows:
        row.right = np.concatenate(right[row.name])


def take_turns(rows: list[Row], image: np.ndarray, queries: int) -> None:
    """Fill in `turns` with at least `queries` queries of `image` [1, C, H, W] each, every other round in reverse order."""
    for turn in range(TURNS):
        for row in rows if turn % 2 == 0 else reversed(rows):
            assert row.run is not None
            row.turns.append(timed(row.run, image, -(-queries // TURNS), WARMUP))


def ratios(row: Row, to: Row) -> np.ndarray:
    """p50 of `row` / p50 of `to`, turn by turn."""
    return np.asarray(row.medians / to.medians)


def difference(row: Row, to: Row) -> tuple[int, int, float, float, float]:
    """Images lost and gained against `to`, and top-1 minus that of `to` in points with its 95 % interval."""
    assert row.right is not None and to.right is not None
    lost, gained = int((to.right & ~row.right).sum()), int((row.right & ~to.right).sum())
    n = len(row.right)
    low, high = tango_interval(lost, gained, n)  # of the drop
    return lost, gained, 100 * (gained - lost) / n, -high, -low
