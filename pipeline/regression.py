"""A run against an earlier one, for `respress diff` and `respress report --against`."""

from pathlib import Path

from core.console import console
from pipeline.step_summary import append_summary
from reports.against import against, exit_code, write_against


def compare_with(out: Path, earlier: Path) -> int:
    """Write against.json and against.md into `out`, print them in short, and return the exit code. ValueError as `against`."""
    found = against(out, earlier)
    write_against(found, out)
    for change in found.changes:
        console.print(f"· changed: {change}", markup=False)
    for pair in found.pairs:
        console.print(f"· {pair.target}: {pair.engines}: {pair.verdict}, {pair.lost} points lost", markup=False)
    console.print(f"against {earlier}: {found.verdict} ({found.images:,} images) · {out / 'against.md'}", markup=False)
    append_summary(out / "against.md")
    return exit_code(found)
