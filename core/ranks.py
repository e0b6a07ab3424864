"""The processes of one command where torchrun starts several. The rank of a process is its number; 0 is the main process.

The main process runs the command as if it were alone. The others wait in `joined`. A function that is decorated with `together`
runs on all of them at the same time. Inside, `size()` is their number, `shard` gives each of them a part of the work, `gather`
collects the results, and `main_goes_on` sends the others back to waiting. Everywhere else `size()` is 1.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from core.team import Finished, Lost, Team

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Lost"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", "list[int]", "np.ndarray")

team: Team | None = None  # None: there is one process


def size() -> int:
    """The number of processes that run the present function together."""
    return team.size if team and team.call else 1


def rank() -> int:
    """The number of this process among them."""
    return team.rank if team and team.call else 0


def is_main() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def processes() -> int:
    """The number of processes that torchrun has started for this command, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_WORLD_SIZE" in os.environ else 1


def span(count: int) -> tuple[int, int]:
    """The first and the last (excluded) of `count` items in the part of this rank. The parts follow each other by rank."""
    return count * rank() // size(), count * (rank() + 1) // size()


def shard(items: S) -> S:
    """The part of this rank of `items`."""
    first, last = span(len(items))
    return items[first:last]


def gather(value: T) -> list[T]:
    """The values of all ranks, by rank, on each of them. Where size() is 1, the value alone."""
    if size() == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def agreed(value: T) -> T:
    """The value of the main process, on all ranks."""
    return gather(value)[0]


def summed(tensor: "Tensor") -> "Tensor":
    """`tensor`, which becomes the sum over all ranks."""
    if size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


@contextmanager
def main_process_first() -> Iterator[None]:
    """The other ranks enter after the main process has left: they find the files that it has written."""
    if not is_main():
        gather(None)
    yield
    if is_main():
        gather(None)


def main_goes_on() -> None:
    """From here on, only the main process runs the function. It continues when all ranks have come this far.

    Raises on the main process the first error of another rank.
    """
    if team and team.call:
        if team.rank:
            raise Finished
        team.end()


def together(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function`, of a module, on all ranks, with the same arguments; the result is that of the main process.

    Arguments are pickled: paths, configs, and functions of modules. Raises the first error of any rank.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if team is None or team.call:
            return function(*args, **kwargs)
        team.announce(function, args, kwargs)
        team.begin()
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            if team.call:
                team.fail(error)
                team.end(error)
            raise
        if team.call:
            team.end()
        return result

    return call


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the main process runs the command. The other ranks do not get inside: they serve the calls and exit with code 0.

    Raises ValueError where a machine has fewer GPUs than processes.
    """
    global team
    if processes() == 1:
        yield
        return
    team = Team.of_torchrun()
    if team.rank:
        team.serve()
        sys.exit()
    try:
        check_gpus(team.local_size)
        yield
    finally:
        team.dismiss()
        team = None


def leave(code: int, stopped: bool) -> NoReturn:
    """End this process with that exit code. `stopped`: a signal has ended the command, perhaps in the middle of a call."""
    if stopped and processes() > 1:  # threads of torch may wait for processes that have ended
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def check_gpus(local: int) -> None:
    import torch

    if 0 < torch.cuda.device_count() < local:
        raise ValueError(
            f"{local} processes on a machine with {torch.cuda.device_count()} GPUs; expected at most one process per GPU "
            "(NPROC, --nproc-per-node)"
        )
