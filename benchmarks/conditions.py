"""The common start of all benchmarks, and the first line of a section of RESULTS.md."""

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import typer

from core import hardware
from core.text import one_line

RESULTS = Path("benchmarks/RESULTS.md")


def conditions(program: str, packages: tuple[str, ...]) -> str:
    """Date, command, processor, GPU and the versions of Python and `packages`; `program` is the module that was run."""
    cpu, gpu = hardware.cpu(), hardware.gpu()
    installed = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed.get(name, 'not installed')}" for name in packages)
    return (
        f"{date.today()}: `{shlex.join(['python', '-m', program, *sys.argv[1:]])}`; {cpu['cpu']}, {cpu['cores']} cores, "
        f"{' '.join(cpu['isa'])}; {gpu['name'] + '; ' if gpu else ''}Python {platform.python_version()}, {versions}"
    )


def list_of(flag: str, text: str, kind: type[Any]) -> list[Any]:
    """ "0,1" -> the numbers, each made by `kind`. Raises ValueError for what is not a number."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{flag} {text!r}: expected numbers, comma-separated") from error


def started_with(main: Callable[..., None]) -> None:
    """Run `main` with the command line; bad input is one line and exit code 2, as everywhere."""
    try:
        typer.run(main)
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
