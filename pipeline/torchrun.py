"""torchrun with the exit codes of this program: python -m pipeline.torchrun --nproc-per-node 2 -m pipeline compress …

It takes torchrun's flags. torchrun itself ends with code 1 and a traceback where a process ends with any code but 0, also where
only the gate failed. Here the code is that of the main process, and a process that was killed is named in one line.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Protocol

from core import hardware

REPORTS = "RESPRESS_TORCHRUN"  # in the environment of the processes: this module prints the lines about signals
CONTINUES = "the same command continues where it stopped"
CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


class Failure(Protocol):
    """How a process ended: a negative exit code is the number of a signal."""

    pid: int
    exitcode: int


def reports() -> bool:
    """Whether this process was started by this module."""
    return REPORTS in os.environ


def main() -> None:
    logging.disable(logging.ERROR)  # torchrun logs every signal that it sends
    os.environ.setdefault("OMP_NUM_THREADS", str(hardware.cores()))  # core/ranks.py divides them; torchrun would set 1
    os.environ[REPORTS] = "1"
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.run(run.parse_args(sys.argv[1:]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        sys.exit(code_of(error.failures))
    except SignalException as error:
        sys.exit(stopped(error.sigval))


def code_of(failures: Mapping[int, Failure]) -> int:
    """The exit code of a command whose processes have ended with those `failures`, by rank. Says what the main one has not."""
    killed = {rank: signal.Signals(-found.exitcode) for rank, found in failures.items() if found.exitcode < 0}
    if killed:
        rank, number = next(iter(killed.items()))
        why = number.name + (", perhaps for lack of memory" if number is signal.SIGKILL else "")
        print(f"error: rank {rank} (process {failures[rank].pid}) was killed by {why}; {CONTINUES}", file=sys.stderr)
        return last(143, "terminated")
    if 0 not in failures:
        rank, found = next(iter(failures.items()))
        print(f"error: rank {rank} (process {found.pid}) ended with exit code {found.exitcode}", file=sys.stderr)
        return last(70, "internal error")
    code = failures[0].exitcode
    return next((stopped(number) for number, (own, _) in CODES.items() if own == code), code)


def stopped(number: signal.Signals) -> int:
    """The exit code of a command that was stopped by that signal."""
    code, meaning = CODES.get(number, (128 + number, number.name))
    print(f"{meaning}; {CONTINUES}")
    return last(code, meaning)


def last(code: int, meaning: str) -> int:
    print(f"exit code {code}: {meaning}", flush=True)
    return code


if __name__ == "__main__":
    main()
