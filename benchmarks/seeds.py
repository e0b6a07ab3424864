"""Trainings with several seeds -> a table of means, spreads and differences within a seed."""

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from benchmarks.plain import PLAIN
from benchmarks.table import OURS
from models.cost import Cost

COLUMNS = ("way", "M MACs", "M params", "top-1 %", "by seed", f"points to {PLAIN}", "minutes")


@dataclass(frozen=True)
class Trained:
    """One network, trained in one way: test top-1 (percent) and minutes of training by seed, in the same order everywhere."""

    name: str
    cost: Cost
    top1: list[float]
    minutes: list[float]


def cells(found: list[Trained]) -> list[list[str]]:
    """One list of texts per way; differences are to the plain one, seed by seed."""
    plain = np.array(next(one.top1 for one in found if one.name == PLAIN))
    return [
        [
            one.name,
            f"{one.cost['macs'] / 1e6:.3f}",
            f"{one.cost['params'] / 1e6:.3f}",
            spread(np.array(one.top1), "{:.2f}"),
            ", ".join(f"{top1:.2f}" for top1 in one.top1),
            "" if one.name == PLAIN else spread(np.array(one.top1) - plain, "{:+.2f}"),
            f"{np.mean(one.minutes):.1f}",
        ]
        for one in found
    ]


def spread(values: np.ndarray, form: str) -> str:
    """Mean (least … greatest; sample standard deviation); of one value, the value."""
    if len(values) == 1:
        return form.format(values[0])
    mean, least, greatest = (form.format(v) for v in (values.mean(), values.min(), values.max()))
    return f"{mean} ({least} … {greatest}; sd {values.std(ddof=1):.2f})"


def verdict(found: list[Trained]) -> list[str]:
    """With how many seeds we beat the plain way, and every way that beats us on average."""
    by_name = {one.name: np.array(one.top1) for one in found}
    ours, plain = by_name[OURS], by_name[PLAIN]
    lines = [f"{OURS} is more accurate than {PLAIN} with {(ours > plain).sum()} of {len(ours)} seeds."]
    better = [name for name, top1 in by_name.items() if top1.mean() > ours.mean()]
    lines += [f"Better than {OURS} on average:{'' if better else ' none.'}"]
    wins = [f"- {name}: {spread(by_name[name] - ours, '{:+.2f}')} points" for name in better]
    return [lines[0], "", lines[1], *(["", *wins] if wins else [])]


def terminal(title: str, found: list[Trained]) -> Table:
    table = Table(*COLUMNS, title=title)
    for texts in cells(found):
        table.add_row(*texts)
    return table


def markdown(title: str, found: list[Trained], remark: str) -> list[str]:
    """The table under `title`, the `remark`, and who wins."""
    lines = [f"### {title}", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(texts)} |" for texts in cells(found)]
    return [*lines, "", remark, "", *verdict(found), ""]
