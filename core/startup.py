"""Prepare the process for a command: its streams, threads and user name, in any container, pipe or terminal."""

import contextlib
import getpass
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from core import disk, hardware
from core.quota import quota

READER_GONE = 141  # what a shell reports for a program that SIGPIPE ended


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare this process, and end it without a message when its output is no longer read (| head).

    Raises ValueError with one line when the body runs out of disk space.
    """
    open_streams()
    limit_threads()
    name_user()
    try:
        with disk.full_disk_in_one_line():
            yield
    except (BrokenPipeError, SystemExit) as error:
        # click turns the error into exit code 1, which is that of a gate that failed.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        silence()
        sys.exit(READER_GONE)


def open_streams() -> None:
    """Let no output fail: streams that were closed go to /dev/null, letters that the terminal does not have become "?"."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so no file of ours gets it
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - for as long as the process runs
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def limit_threads() -> None:
    """OpenMP, and with it torch, starts a thread per core of the machine: under a CPU quota too many."""
    if "OMP_NUM_THREADS" in os.environ or quota() is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(hardware.cores())
    if torch := sys.modules.get("torch"):  # it has read the variable already
        torch.set_num_threads(hardware.cores())


def name_user() -> None:
    """Give a user whom the system has no name for (docker run --user 1234) one: torch names a folder after the user."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = str(os.getuid())


def silence() -> None:
    """Send what is still to be written to /dev/null, or Python complains about it on exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
