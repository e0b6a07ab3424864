"""The report on the page of a run of GitHub Actions: it shows the file that GITHUB_STEP_SUMMARY names."""

import os
from pathlib import Path

from core.console import console


def append_summary(report: Path) -> None:
    """Append the Markdown file `report` where GITHUB_STEP_SUMMARY is set. A failure is only printed: the gate decides."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with open(name, "a", encoding="utf-8") as page:
            page.write(report.read_text(encoding="utf-8") + "\n")
    except OSError as error:
        console.print(f"· {report} was not appended to GITHUB_STEP_SUMMARY={name}: {error.strerror}", markup=False)
