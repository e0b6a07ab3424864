"""Worker processes that leave nothing behind."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset


def answers(dataset: Dataset[Any], groups: Any, workers: int) -> Iterator[Any]:
    """What `dataset` answers to every list of indices in `groups`, in order, asked in worker processes (none: in this one).

    torch's loader leaves a handler of SIGCHLD behind for good. It would run whenever any child process ends, on a signal stack
    that OpenVINO has been seen to spoil: segmentation faults. Workers that die are noticed without it.
    """
    loader = DataLoader(dataset, batch_sampler=groups, num_workers=workers, collate_fn=_identity)
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    yield from iterator


def _identity(answer: Any) -> Any:
    return answer
