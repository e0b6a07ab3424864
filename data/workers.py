"""Worker processes that end cleanly and work with little or no shared memory."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core import hardware
from core.console import console

SHARED = "/dev/shm"
FIX = "in a container, start it with --shm-size=1g, or pass --workers 0"
limit: int | None = None  # processes at most: --workers

# Python 3.14 would start a fork server here, and Macs start new processes. Both run the user's script again in every worker.
START = "fork" if sys.platform == "linux" else None
UNGUARDED = (
    "a process that decodes images did not start, probably because it ran your script again; put what your script does below "
    'if __name__ == "__main__":'
)


class Piped(tuple[np.ndarray, ...]):
    """Arrays in the place of tensors that did not fit into shared memory."""


def wanted(groups: int) -> int:
    """The number of worker processes for so many groups; a single group is not quicker with one."""
    return min(groups, hardware.cores() if limit is None else limit) if groups > 1 else 0


def results(dataset: Dataset[Any], groups: Any, workers: int) -> Iterator[Any]:
    """The result of `dataset` for every list of indices in `groups`, in order, computed in worker processes (0: in this one).

    Tuples of tensors come through shared memory, or, if there is too little of it, through pipes, which is slower. If no worker
    process can be started, all is computed in this one. Raises ValueError if a worker process is killed.

    torch's loader installs a handler of SIGCHLD and never removes it. It would run each time a child process ends, on a signal
    stack that OpenVINO may have overwritten, which caused segmentation faults. Workers that die are noticed without it.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        if workers:
            multiprocessing.Lock()  # fails if torch's loader would fail, which would print a traceback
        how, collate = (START, packed) if workers else (None, same)
        loader = DataLoader(dataset, batch_sampler=groups, num_workers=workers, collate_fn=collate, multiprocessing_context=how)
        iterator = iter(loader)
    except OSError as error:  # semaphores need shared memory; processes may be limited
        say_once(f"no worker processes ({error.strerror}): images are decoded in one process, which is slower; {FIX}")
        iterator = iter(DataLoader(dataset, batch_sampler=groups, collate_fn=same))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    # The loader's own list: multiprocessing's list of children does not have a worker that is already dead.
    processes = list(getattr(iterator, "_workers", []))
    try:
        for result in iterator:
            yield unpacked(result)
    except (RuntimeError, OSError, EOFError) as error:  # OSError and EOFError if a batch was being sent
        ending = connection.wait([process.sentinel for process in processes], timeout=1)
        for process in processes:
            if process.sentinel in ending:
                process.join()  # a process that ends has no exit code at once
        killed = [-code for process in processes if (code := process.exitcode or 0) < 0]
        if killed:
            raise ValueError(cause_of(killed[0])) from error
        if START != "fork" and any(process.exitcode for process in processes):
            raise ValueError(UNGUARDED) from error
        raise


def same(result: Any) -> Any:
    return result


def packed(result: Any) -> Any:
    """In a worker: tensors in shared memory if they need at most half of the free part, otherwise as arrays.

    torch itself does not check whether there is enough: the worker is killed by SIGBUS, or waits for ever. The other half is
    for the other workers, which may check at the same moment.
    """
    if not (isinstance(result, tuple) and all(isinstance(part, torch.Tensor) for part in result)):
        return result
    try:
        if sum(part.nbytes for part in result) <= free_shared_memory() / 2:
            return tuple(part.share_memory_() for part in result)
    except (OSError, RuntimeError):  # another process has used the memory in between
        pass
    return Piped(part.numpy() for part in result)


def unpacked(result: Any) -> Any:
    if isinstance(result, Piped):
        say_once(f"too little shared memory ({SHARED}): images come through pipes, which is slower; {FIX}")
        return tuple(torch.from_numpy(part) for part in result)
    return result


def free_shared_memory() -> int:
    """Bytes."""
    if sys.platform == "darwin":  # where it is limited by the memory, and is no folder
        return sys.maxsize
    found = os.statvfs(SHARED)
    return found.f_bavail * found.f_frsize


@cache
def say_once(line: str) -> None:
    console.print(line, markup=False)


def cause_of(number: int) -> str:
    """Why a worker process was killed by that signal, and what to do."""
    what = f"a process that decodes images was killed ({signal.Signals(number).name})"
    if number == signal.SIGKILL:
        return f"{what}, probably for lack of memory; close other programs, or allow the container more memory"
    return f"{what}, probably for lack of shared memory ({SHARED}); {FIX}"
