"""Several calls of a function at the same time, each in a process: one training of a small network leaves a GPU mostly idle."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from core import hardware

T = TypeVar("T")


def at_once(jobs: int, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """The results of `function` for the arguments of `calls`, in their order. `jobs` processes divide the cores among them.

    One job is this process. Raises the error of the first call that fails, and ValueError when a process was killed; all others
    are ended then, too.
    """
    if jobs == 1:
        yield from (function(*arguments) for arguments in calls)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), started, (jobs,)) as pool:
        try:
            yield from pool.map(function, *zip(*calls, strict=True))
        except BaseException as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                lack = "perhaps for lack of memory; the same command with fewer jobs continues"
                raise ValueError(f"one of the {jobs} processes was killed, {lack}") from error
            raise


def started(jobs: int) -> None:
    """Take a share of the cores, draw no progress bars, and end when the process that has started this one does."""
    hardware.sharing = jobs
    torch.set_num_threads(hardware.cores())
    os.environ["TTY_COMPATIBLE"] = "0"  # rich's name for it
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
