"""The last lines of a command: its findings and its verdict. The report is also appended to the page of GitHub Actions."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.console import console
from pipeline.step_summary import append_summary

if TYPE_CHECKING:
    from reports.comparison import Comparison
    from reports.schema import Report


def tell(report: "Report", out: Path) -> None:
    from reports.speed import busy_notes  # after --help and bad flags

    for note in report.notes:
        console.print(f"· {note}", markup=False)
    for warning in busy_notes(report.rows):
        console.print(warning, style="bold red", markup=False)
    images = f" ({report.dataset.divided})" if report.dataset.divided else ""
    console.print(f"gate: [bold]{report.gate.verdict}[/bold]{images} · {out / 'report.html'}")
    append_summary(out / "report.md")


def tell_run(report: "Report", out: Path, devices: Sequence[str] = ()) -> int:
    """Tell the report, and on stderr why one of the `devices` that the command named could not be had. The exit code."""
    from measure.device.devices import device_of
    from reports.rows import exit_code

    tell(report, out)
    names = [device_of(each).name for each in devices]
    for reason in dict.fromkeys(row.reason for row in report.rows if row.device in names and row.status == "unavailable"):
        print(f"error: {reason}", file=sys.stderr)
    return exit_code(report, names)


def tell_comparison(found: "Comparison", out: Path) -> None:
    for table in found.targets:
        for note in [f"{choice.what} that ships: {choice.text}" for choice in table.choices] + table.notes:
            console.print(f"· {table.target}: {note}", markup=False)
    console.print(f"{out / 'compare.html'}", markup=False)
    append_summary(out / "compare.md")
