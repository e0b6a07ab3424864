"""Rows -> a table, the rows that are clearly better than ours, and the section of RESULTS.md."""

import re

import numpy as np
from rich.table import Table

from benchmarks.turns import CLEARLY, TURNS, Row, difference, ratios
from core.text import spread

OURS = "respress"
INTRO = f"""# Engines of other tools, side by side

Written by `make bench`; a section is replaced when its benchmark runs again. Tables of engines: one FP32 checkpoint, one
runtime, the same calibration images; engines take turns at batch 1 on all cores. *p50 of turns* is the range of the turns'
medians; *p50 / {OURS}* is the median and the range of the ratios within a turn, above 1 where {OURS} is faster. Accuracy is
top-1 on the test split; *points* is the difference to {OURS} with its 95 % interval (Tango, paired); *lost* are images that
only {OURS} has right, *gained* those that only the other has. *Seconds* is what quantizing took, *minutes* what pruning,
fine-tuning and quantizing took. "Clearly better" is computed: faster in at least {CLEARLY} of {TURNS} turns, or more accurate
with an interval that excludes 0. A file that is *placed for* another runtime has its Q/DQ where that runtime wants them; its
time here says nothing about the tool and is not compared. Tables of pruning: networks in floating point; mean (least …
greatest; standard deviation) over the seeds of fine-tuning, differences taken seed by seed.
"""


def columns(rows: list[Row]) -> list[str]:
    accuracy = ["top-1 %", f"points to {OURS}", "lost / gained"] if has_accuracy(rows) else []
    p50, whole = ["p50 ms", "p50 of turns", f"p50 / {OURS}"], whole_way(rows)
    network = ["MB", "M params", "M MACs"] if whole else []
    return ["engine", *accuracy, *network, *p50, "INT8 share", "minutes" if whole else "seconds"]


def cells(rows: list[Row]) -> list[list[str]]:
    """One list of texts per row, as many as there are columns."""
    ours = ours_of(rows)
    found = []
    for row in rows:
        texts = [row.name]
        if row.run is None:
            found.append([row.name, row.why] + [""] * (len(columns(rows)) - 2))
            continue
        if row.right is not None:
            lost, gained, points, low, high = difference(row, ours)
            against = ["", ""] if row is ours else [spread(points, low, high, "{:+.2f}"), f"{lost} / {gained}"]
            texts += [f"{100 * row.right.mean():.2f}", *against]
        if row.cost is not None:
            megabytes = "" if row.size is None else f"{row.size / 1e6:.2f}"
            texts += [megabytes, f"{row.cost['params'] / 1e6:.2f}", f"{row.cost['macs'] / 1e6:.2f}"]
        medians = row.medians
        texts += [f"{row.p50:.3f}", f"{medians.min():.3f} … {medians.max():.3f}", times_ours(row, ours)]
        texts += [
            "" if row.int8_share is None else f"{row.int8_share:.3f}",
            "" if row.seconds is None else f"{row.seconds / 60 if row.cost else row.seconds:.1f}",
        ]
        found.append(texts)
    return found


def times_ours(row: Row, ours: Row) -> str:
    """How many times as long as ours it takes; no comparison for a file that is placed for another runtime."""
    if row.placed_for:
        return f"placed for {row.placed_for}"
    return "1" if row is ours else median_of(ratios(row, ours))


def better(rows: list[Row]) -> list[str]:
    """A sentence for everything in which a row is clearly better than ours."""
    ours = ours_of(rows)
    found = []
    for row in rows:
        if row is ours or row.run is None:
            continue
        to_ours = ratios(row, ours)
        if (faster := int((to_ours < 1).sum())) >= CLEARLY:
            found.append(f"{row.name} is faster in {faster} of {len(to_ours)} turns: p50 / {OURS} {median_of(to_ours)}")
        if row.right is not None:
            _, _, points, low, high = difference(row, ours)
            if low > 0:
                found.append(f"{row.name} is more accurate: {points:+.2f} points ({low:+.2f} … {high:+.2f})")
    return found


def goal(rows: list[Row], at_least: float) -> str:
    """Whether INT8 beats FP32 by the factor `at_least`, with `int8_share` 0.99."""
    ours = ours_of(rows)
    factor, share = ratios(next(row for row in rows if row.name == "FP32"), ours), ours.int8_share or 0.0
    met = "met" if np.median(factor) >= at_least and share >= 0.99 else "missed"
    return f"FP32 / {OURS} {median_of(factor)}, INT8 share {share:.3f}. Goal: at least {at_least} and 0.99, {met}."


def median_of(values: np.ndarray, form: str = "{:.3f}") -> str:
    """Median (least … greatest)."""
    return spread(float(np.median(values)), values.min(), values.max(), form)


def ours_of(rows: list[Row]) -> Row:
    return next(row for row in rows if row.name == OURS)


def has_accuracy(rows: list[Row]) -> bool:
    return any(row.right is not None for row in rows)


def whole_way(rows: list[Row]) -> bool:
    """Whether the rows are of several networks."""
    return any(row.cost is not None for row in rows)


def terminal(title: str, rows: list[Row]) -> Table:
    table = Table(*columns(rows), title=title)
    for texts in cells(rows):
        table.add_row(*texts)
    return table


def markdown(title: str, rows: list[Row], remarks: list[str]) -> list[str]:
    """The table under `title`, its `remarks`, and who is clearly better than we are."""
    names = columns(rows)
    lines = [f"### {title}", "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(text.replace('|', '/') for text in texts)} |" for texts in cells(rows)]
    found = better(rows)
    lines += ["", *remarks, *([""] if remarks else []), f"Clearly better than {OURS}:{'' if found else ' none.'}"]
    return [*lines, "", *(f"- {one}" for one in found), *([""] if found else [])]


def with_section(text: str, heading: str, lines: list[str]) -> str:
    """RESULTS.md from what it was, "" where there is none, with `lines` below "## heading" instead of what stood there."""
    body = "\n".join([f"## {heading}", "", *lines]).rstrip() + "\n"
    sections = [part.rstrip() + "\n" for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if part.startswith("## ")]
    headings = [part.split("\n")[0] for part in sections]
    place = headings.index(f"## {heading}") if f"## {heading}" in headings else len(sections)
    return "\n".join([INTRO, *sections[:place], body, *sections[place + 1 :]])
