"""A job of LAUNCH: work whose results are stages in a store. It runs in a process of its own, perhaps on another machine."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import hardware, startup, stop
from core.text import one_line


@dataclass(frozen=True)
class Job:
    """`work`, a function of a module with its arguments, whose result is not read. `name` is what users see.

    `sharing` is the number of jobs that use the cores of this machine at the same time.
    """

    name: str
    work: Callable[[], object]
    sharing: int = 1

    def __call__(self) -> None:
        """Run in a process of submitit. SIGUSR2 puts the job back into the queue; SIGTERM only ends it.

        A ValueError is printed only: the command itself comes to the same point and says it to the user.
        """
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        stop.on_signals()
        try:
            with startup.prepared():
                self.share_cores()
                self.work()
        except ValueError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
        except stop.Terminated as end:
            if end.number == signal.SIGUSR2:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which Slurm then sends
                requeue(end.number, None)
            sys.exit(143)

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same job, which continues from the stages on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def share_cores(self) -> None:
        import torch

        hardware.sharing = self.sharing
        torch.set_num_threads(max(1, torch.get_num_threads() // self.sharing))
