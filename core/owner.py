"""The process that owns something on a shared file system, named so that others can find out whether it still exists."""

import hashlib
import os
import platform
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process. `started` and `boot` distinguish it from those that have the same number later, or in another container.

    token   another one for everything that the process owns
    """

    token: str
    process: int
    started: str
    boot: str
    machine: str

    @classmethod
    def here(cls) -> "Owner":
        """This process, with a new token."""
        machine = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in platform.node())
        return cls(uuid.uuid4().hex[:12], os.getpid(), started(os.getpid()), boot(), machine or "unknown")

    @classmethod
    def named(cls, name: str) -> "Owner":
        token, process, begun, booted, machine = name.split(".")
        return cls(token, int(process), begun, booted, machine)

    @property
    def name(self) -> str:
        """What `named` reads, for the name of a file."""
        return f"{self.token}.{self.process}.{self.started}.{self.boot}.{self.machine}"

    @property
    def alive(self) -> bool | None:
        """Whether the process exists; None if it is on another machine."""
        return (started(self.process) == self.started != "") if self.boot == boot() else None

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine}"


@cache
def boot() -> str:
    """What the processes have in common whose numbers this process sees: machine, start of the system, container."""
    parts = [platform.node()]
    for path, read in (
        ("/proc/sys/kernel/random/boot_id", lambda path: Path(path).read_text()),
        ("/proc/self/ns/pid", os.readlink),
    ):
        with suppress(OSError):
            parts.append(read(path))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def started(process: int) -> str:
    """When that process began, in ticks of the system; "" if it does not exist. "0" for all where there is no /proc."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "0"
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
