"""Drops of accuracy by share of MACs and epochs -> a table, with published figures between ours."""

import math
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table

from benchmarks.published import PUBLISHED
from benchmarks.table import OURS
from core.text import spread

COLUMNS = ("method", "MACs", "epochs", "top-1 %", "drop, floats", "drop, INT8", "seeds", "source")


@dataclass
class Recovered:
    """Networks that lack the share `removed` of the MACs, trained for so many epochs.

    floats, int8   test top-1 in percent by seed, of the network in PyTorch and of its INT8 engine
    """

    removed: float
    epochs: int
    floats: list[float] = field(default_factory=list)
    int8: list[float] = field(default_factory=list)


def cells(model: str, base: float, found: list[Recovered], seeds: int) -> list[list[str]]:
    """One list of texts per row, by MACs and epochs. `base` is the top-1 of the checkpoint; every row should have `seeds`."""
    rows = [(100 * one.removed, float(one.epochs), ours(base, one, seeds)) for one in found]
    for one in PUBLISHED.get(model, ()):
        before, drop = ("?", "?") if one.base is None else (f"{one.base:.2f}", f"{one.base - one.pruned:+.2f}")
        texts = [
            one.method,
            f"−{one.removed} %",
            str(one.epochs or "?"),
            f"{before} → {one.pruned:.2f}",
            drop,
            "",
            "",
            one.source,
        ]
        rows.append((one.removed, one.epochs or math.inf, texts))
    return [texts for *_, texts in sorted(rows, key=lambda row: row[:2])]


def ours(base: float, one: Recovered, seeds: int) -> list[str]:
    after = f"{base:.2f} → {np.mean(one.floats):.2f}" if one.floats else ""
    drops = [over_seeds([base - top1 for top1 in values]) for values in (one.floats, one.int8)]
    counted = f"{len(one.floats)} of {seeds}"
    return [OURS, f"−{100 * one.removed:.1f} %", str(one.epochs), after, *drops, counted, "this run, last epoch"]


def over_seeds(values: list[float]) -> str:
    """Mean (least … greatest); of one value, the value; "" of none."""
    if len(values) < 2:
        return "".join(f"{value:+.2f}" for value in values)
    return spread(float(np.mean(values)), min(values), max(values), "{:+.2f}")


def terminal(title: str, rows: list[list[str]]) -> Table:
    table = Table(*COLUMNS, title=title)
    for texts in rows:
        table.add_row(*texts)
    return table


def markdown(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *(f"| {' | '.join(texts)} |" for texts in rows)]
