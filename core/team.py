"""How the processes of one command meet (see core/ranks.py): in torchrun's store for the calls, in a process group during each.

Those that wait for a call wait in the store: this uses no processor time, and may last hours. Every call has a process group of
its own: an error of one rank closes it, which ends the call on the ranks that wait for a message from this one.

Calls and errors are pickled, like the objects that torch.distributed itself gathers. They come from processes of the same
command. torchrun's store has no password: its port belongs into a network that is trusted.
"""

import importlib
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from core import hardware
from core.console import console
from core.text import one_line

EVER = timedelta(days=20)  # the others wait as long as a stage of the main process takes; in milliseconds it has 31 bits
GRACE = 30.0  # seconds for the others to end a call after a connection has failed
END = b""  # in place of a call: the command is finished


class Lost(BaseException):
    """Another process has ended. Not an Exception, so that no stage takes it for a fault of its own."""


class Finished(BaseException):
    """Ends a call on the ranks that are not needed any more."""


@dataclass
class Team:
    """All processes of the command, as one of them sees them.

    number   that of the next call
    call     the store of the present call; None between calls
    threads  of torch, where the main process works alone
    """

    rank: int
    size: int
    local_size: int
    store: Any  # a torch.distributed.Store, but torch's stub does not know that it takes bytes
    threads: int
    number: int = 0
    call: Any = None

    @classmethod
    def of_torchrun(cls) -> "Team":
        """Meet the processes that torchrun has started."""
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # hints for developers, which every rank would print
        import torch
        from torch.distributed.rendezvous import rendezvous

        store, rank, size = next(rendezvous("env://"))
        store.set_timeout(EVER)
        if os.environ.get("OMP_NUM_THREADS") == "1":  # what torchrun sets where the user has set nothing
            torch.set_num_threads(hardware.cores())
        return cls(rank, size, int(os.environ["LOCAL_WORLD_SIZE"]), store, torch.get_num_threads())

    def announce(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The main process calls the others to run `function`."""
        self.store.set(str(self.number), pickle.dumps((function.__module__, function.__name__, args, kwargs)))

    def dismiss(self) -> None:
        self.store.set(str(self.number), END)

    def serve(self) -> None:
        """Take part in the calls of the main process until the command is finished. Nothing is printed.

        Ctrl-C and torchrun's SIGTERM reach all processes. These here have nothing to save, so they end at once.
        """
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        console.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print, too
        warnings.simplefilter("ignore")
        while (message := self.store.get(str(self.number))) != END:
            self.begin()
            try:
                module, function, args, kwargs = pickle.loads(message)
                self.check_files((*args, *kwargs.values()))
                getattr(importlib.import_module(module), function)(*args, **kwargs)
            except Finished:
                pass
            except Exception as error:
                self.fail(error)
            self.end()

    def check_files(self, arguments: Sequence[object]) -> None:
        """ValueError unless this machine has the files that the call names."""
        for path in arguments:
            if isinstance(path, Path) and not path.exists():
                raise ValueError(
                    f"rank {self.rank} on {os.uname().nodename} does not see {path}; expected OUT and DATA on a file system "
                    "that all machines share, under the same path"
                )

    def begin(self) -> None:
        """Connect the ranks for one call, and divide the cores and GPUs of the machine among them."""
        import torch
        from torch import distributed
        from torch.distributed.distributed_c10d import PrefixStore

        self.call = PrefixStore(f"call {self.number}", self.store)
        self.number += 1
        hardware.sharing = self.local_size
        torch.set_num_threads(max(1, self.threads // self.local_size))
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        self.meet("here")
        try:
            distributed.init_process_group(backend, store=self.call, rank=self.rank, world_size=self.size, timeout=EVER)
        except RuntimeError as error:
            raise Lost(f"the processes cannot connect ({one_line(error)})") from error
        self.arrive("connected")

    def fail(self, error: Exception) -> None:
        """Keep the first error of a call, and end the call on the ranks that wait for this one."""
        try:
            message = pickle.dumps(error)
            pickle.loads(message)
        except Exception:  # an exception that cannot be pickled or rebuilt
            message = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        if self.call.add("errors", 1) == 1:
            self.call.set("error", message)
        self.meet("connected")
        disconnect()

    def end(self, error: Exception | None = None) -> None:
        """Wait until all ranks have ended the call. Raises on the main process the first error, unless it is `error`."""
        call = self.call
        broken = self.rank == 0 and isinstance(error, RuntimeError) and "gloo" in str(error)
        self.meet("ended", most=GRACE if broken else None)  # the other end of the connection may be gone
        disconnect()
        self.call, hardware.sharing = None, 1
        import torch

        torch.set_num_threads(self.threads)
        if self.rank == 0 and call.check(["error"]):
            first = pickle.loads(call.get("error"))
            if str(first) != str(error):
                raise first from error

    def arrive(self, place: str) -> None:
        self.call.set(f"{place} {self.rank}", b"")

    def meet(self, place: str, most: float | None = None) -> None:
        """Wait until all ranks have come to this `place` of the call: in a loop, because Python then handles signals.

        Raises Lost after `most` seconds.
        """
        self.arrive(place)
        until = time.monotonic() + (most or float("inf"))
        while not self.call.check([f"{place} {rank}" for rank in range(self.size)]):
            if time.monotonic() > until:
                raise Lost("another process of this command has ended")
            time.sleep(0.01)


def disconnect() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
