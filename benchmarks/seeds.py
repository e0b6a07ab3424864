"""Trainings with several seeds -> a table of means, spreads and differences within a seed."""

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from benchmarks.table import OURS
from models.cost import Cost

DISTILLED, ALONE = "distilled", "on the labels alone"
LIKE_FOR_LIKE = f"points of {OURS}, like for like"
COLUMNS = ("network", "training", "M MACs", "M params", "top-1 %", "by seed", LIKE_FOR_LIKE, "minutes")


@dataclass(frozen=True)
class Trained:
    """One network, pruned by `tool`, trained in one `way`: test top-1 (percent) and minutes of training by seed, in the same
    order everywhere.
    """

    tool: str
    way: str
    cost: Cost
    top1: list[float]
    minutes: list[float]


def cells(found: list[Trained]) -> list[list[str]]:
    """One list of texts per training. Differences are those of ours to it, trained in the same way, seed by seed."""
    ours = {one.way: one for one in found if one.tool == OURS}
    return [
        [
            one.tool,
            one.way,
            f"{one.cost['macs'] / 1e6:.3f}",
            f"{one.cost['params'] / 1e6:.3f}",
            spread(np.array(one.top1), "{:.2f}"),
            ", ".join(f"{top1:.2f}" for top1 in one.top1),
            "" if one.tool == OURS else spread(gained(ours[one.way], one), "{:+.2f}"),
            f"{np.mean(one.minutes):.1f}",
        ]
        for one in found
    ]


def gained(one: Trained, other: Trained) -> np.ndarray:
    """Points of top-1 of `one` minus those of `other`, by seed."""
    return np.subtract(one.top1, other.top1)


def spread(values: np.ndarray, form: str) -> str:
    """Mean (least … greatest; sample standard deviation); of one value, the value."""
    if len(values) == 1:
        return form.format(values[0])
    mean, least, greatest = (form.format(v) for v in (values.mean(), values.min(), values.max()))
    return f"{mean} ({least} … {greatest}; sd {values.std(ddof=1):.2f})"


def verdict(found: list[Trained]) -> list[str]:
    """For each way of training, by how much ours beats the best of the others, trained in the same way."""
    lines = ["Like for like, the best of the other networks against ours, trained in the same way:", ""]
    for ours in (one for one in found if one.tool == OURS):
        best = max((one for one in found if one.way == ours.way and one.tool != OURS), key=lambda one: np.mean(one.top1))
        points = gained(ours, best)
        lines.append(
            f"- {ours.way}: {OURS} has {spread(points, '{:+.2f}')} points to {best.tool}, and is more accurate with "
            f"{(points > 0).sum()} of {len(points)} seeds."
        )
    return lines


def terminal(title: str, found: list[Trained]) -> Table:
    table = Table(*COLUMNS, title=title)
    for texts in cells(found):
        table.add_row(*texts)
    return table


def markdown(title: str, found: list[Trained], remarks: list[str]) -> list[str]:
    """The table under `title`, the `remarks`, and who wins."""
    lines = [f"### {title}", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(texts)} |" for texts in cells(found)]
    return [*lines, "", *(f"- {remark}" for remark in remarks), "", *verdict(found), ""]
