"""Worker processes that leave nothing behind, and that work with whatever shared memory there is."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from functools import cache
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.console import console

SHARED = "/dev/shm"
FIX = "in a container, start it with --shm-size=1g"


def answers(dataset: Dataset[Any], groups: Any, workers: int) -> Iterator[Any]:
    """What `dataset` returns for every list of indices in `groups`, in order, computed in worker processes (0: in this one).

    Tuples of tensors come through shared memory; where there is too little of it, through pipes, which is slower; where no
    worker process can be started, everything is computed in this one. Raises ValueError when a worker process is killed.

    torch's loader leaves a handler of SIGCHLD behind for good. It would run whenever any child process ends, on a signal stack
    that OpenVINO has been seen to spoil: segmentation faults. Workers that die are noticed without it.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        if workers:
            multiprocessing.Lock()  # fails where torch's loader would fail and leave a traceback on stderr
        iterator = iter(DataLoader(dataset, batch_sampler=groups, num_workers=workers, collate_fn=packed if workers else same))
    except OSError as error:  # semaphores need shared memory; processes may be limited
        say_once(f"no worker processes ({error.strerror}): images are decoded in one process, which is slower; {FIX}")
        iterator = iter(DataLoader(dataset, batch_sampler=groups, collate_fn=same))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    processes = multiprocessing.active_children()
    try:
        for answer in iterator:
            yield unpacked(answer)
    except (RuntimeError, OSError, EOFError) as error:  # the last two where a batch was on its way
        connection.wait([process.sentinel for process in processes], timeout=1)  # until it is known how one of them ended
        killed = [-code for process in processes if (code := process.exitcode or 0) < 0]
        if not killed:
            raise
        raise ValueError(cause_of(killed[0])) from error


def same(answer: Any) -> Any:
    return answer


def packed(answer: Any) -> Any:
    """In a worker: tensors in shared memory where they take up at most half of what is free, else as arrays.

    Left to itself torch uses what is not there: it is killed by SIGBUS, or waits for ever. The other half is for the other
    workers, which look at the same moment.
    """
    if not (isinstance(answer, tuple) and all(isinstance(part, torch.Tensor) for part in answer)):
        return answer
    try:
        if sum(part.nbytes for part in answer) <= free_shared_memory() / 2:
            return tuple(part.share_memory_() for part in answer)
    except (OSError, RuntimeError):  # somebody else was quicker
        pass
    return tuple(part.numpy() for part in answer)


def unpacked(answer: Any) -> Any:
    if isinstance(answer, tuple) and isinstance(answer[0], np.ndarray):
        say_once(f"too little shared memory ({SHARED}): images come through pipes, which is slower; {FIX}")
        return tuple(torch.from_numpy(part) for part in answer)
    return answer


def free_shared_memory() -> int:
    """Bytes."""
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
