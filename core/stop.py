"""SIGTERM and SIGUSR2 stop a process of a cluster: a training finishes its step and is saved, everything else ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from core import ranks
from core.console import console

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)  # Slurm sends the second one before the time limit, because submitit wants it

trains = False
received: int | None = None


class Terminated(BaseException):
    """By the signal `number`. Not an Exception, so that no stage takes it for a fault of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def on_signals() -> None:
    """From here on, `SIGNALS` raise Terminated: in a training after its step, elsewhere at once."""
    global received
    received = None
    for number in SIGNALS:
        signal.signal(number, stop)


def stop(number: int, _: FrameType | None) -> None:
    global received
    if not trains or received is not None:  # the second one does not wait
        raise Terminated(number)
    received = number
    console.print(f"{signal.Signals(number).name}: finishing the step")


@contextmanager
def after_steps(save: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A function that a training calls after each of its steps: after a signal, it calls `save` and raises Terminated.

    A signal after the last step raises it at the end. Where several ranks train, a signal raises it at once: the others end,
    too, and the step would wait for them.
    """
    global trains

    def after_step() -> None:
        if received is not None:
            save()
            raise Terminated(received)

    trains = ranks.size() == 1
    try:
        yield after_step
    finally:
        trains = False
    if received is not None:
        raise Terminated(received)
