"""SIGTERM and SIGUSR2 stop a process of a cluster: a training finishes its step and is saved, everything else ends at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from core import ranks
from core.console import console

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)  # Slurm sends the second one before the time limit, because submitit wants it

process = 0  # the one that is stopped by signals
trains = False
received: int | None = None


class Terminated(BaseException):
    """By the signal `number`. Not an Exception, so that no stage takes it for a fault of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def on_signals() -> None:
    """From here on, `SIGNALS` raise Terminated in this process: in a training after its step, elsewhere at once.

    Slurm sends them to all processes of a job, also to those that decode images. SIGTERM ends these, as everywhere.
    """
    global process, received
    process, received = os.getpid(), None
    for number in SIGNALS:
        signal.signal(number, stop)


def stop(number: int, _: FrameType | None) -> None:
    global received
    if os.getpid() != process:
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return
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
    except ValueError:
        if received is None:
            raise
        save()  # a process that decodes images has ended before this one: there is no batch for the next step
    finally:
        trains = False
    if received is not None:
        raise Terminated(received)
