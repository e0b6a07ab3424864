"""What a section of RESULTS.md opens with: when, with which command, on what."""

import importlib.metadata
import platform
import shlex
import sys
from datetime import date
from pathlib import Path

from pipeline import hardware

RESULTS = Path("benchmarks/RESULTS.md")


def conditions(program: str, packages: tuple[str, ...]) -> str:
    """Date, command, processor and the versions of Python and `packages`; `program` is the module that was run."""
    cpu = hardware.cpu()
    installed = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed.get(name, 'not installed')}" for name in packages)
    return (
        f"{date.today()}: `{shlex.join(['python', '-m', program, *sys.argv[1:]])}`; {cpu['cpu']}, {cpu['cores']} cores, "
        f"{' '.join(cpu['isa'])}; Python {platform.python_version()}, {versions}"
    )
