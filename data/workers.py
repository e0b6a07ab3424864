"""Worker processes that leave nothing behind."""

import signal
import threading
from collections.abc import Iterator
from typing import Any


def without_signals(loader: Any) -> Iterator[Any]:
    """Iterate without the handler of SIGCHLD that torch's loader leaves behind for good.

    It would run whenever any child process ends, on a signal stack that OpenVINO has been seen to spoil: segmentation faults.
    Workers that die are noticed without it.
    """
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    yield from iterator
