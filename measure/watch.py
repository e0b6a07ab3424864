"""What the machine does besides, while an engine is timed: load of other processes, steal time, clock, temperature, throttling.

All is read from /proc and /sys. Where there is no /proc (macOS) nothing is watched.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.quota import control_groups

OTHERS = 0.25  # cores that other processes use at most, of those that the engine needs: /proc/stat counts in steps of 10 ms
STEAL = 0.1  # cores that the hypervisor keeps back at most
SHORTEST = 5  # ticks of 10 ms: the load in a shorter turn is not known
CLOCK = 0.8  # of the highest clock of all turns at least


@dataclass(frozen=True)
class Sample:
    """Counters since the machine was started; `clock` and `celsius` of this moment.

    total, busy, stolen   ticks of all watched cores; `busy` is without `stolen`
    own                   ticks of this process
    throttled             times that a control group of this process was stopped by its quota, and the time that it lost
    """

    total: int
    busy: int
    stolen: int
    own: int
    throttled: tuple[int, ...]
    clock: float | None
    celsius: float | None


@dataclass(frozen=True)
class Seen:
    """What happened in one turn: cores that others used and that were stolen, MHz and degrees Celsius at its end."""

    others: float
    stolen: float
    throttled: bool
    clock: float | None
    celsius: float | None


class Watch:
    """Watches the cores `cpus`, by default those that this process may use. `root` has /proc and /sys."""

    def __init__(self, root: Path = Path("/"), cpus: Iterable[int] | None = None) -> None:
        self.root = root
        if cpus is None:
            cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        self.cpus = sorted(cpus)
        self.groups = list(dict.fromkeys(control_groups(root)))

    def sample(self) -> Sample | None:
        """None where there is nothing to read."""
        clock = max(
            numbers(self.root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in self.cpus), default=None
        )
        celsius = max(numbers((self.root / "sys/class/thermal").glob("thermal_zone*/temp")), default=None)
        try:
            cores = [line.split() for line in (self.root / "proc/stat").read_text().splitlines() if line.startswith("cpu")]
            # The name of the process, in brackets, may contain spaces.
            own = (self.root / "proc/self/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        names = {f"cpu{cpu}" for cpu in self.cpus}
        # user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice
        ticks = [list(map(int, fields[:8])) for name, *fields in cores if name in names]
        total, idle, stolen = (sum(sum(core[i] for i in which) for core in ticks) for which in (range(8), (3, 4), (7,)))
        return Sample(
            total=total,
            busy=total - idle - stolen,
            stolen=stolen,
            own=int(own[11]) + int(own[12]),
            throttled=tuple(throttled(self.groups)),
            clock=None if clock is None else clock / 1000,
            celsius=None if celsius is None else celsius / 1000,
        )

    def since(self, before: Sample | None) -> Seen | None:
        """What happened between the sample `before` and now; None if that is not known."""
        return seen_between(before, self.sample(), len(self.cpus))


def seen_between(before: Sample | None, after: Sample | None, cpus: int) -> Seen | None:
    """What happened on `cpus` cores between two samples; None if that is not known."""
    if before is None or after is None:
        return None
    ticks_of_a_core = (after.total - before.total) / cpus
    if ticks_of_a_core < SHORTEST:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return Seen(
        others=max(0, others) / ticks_of_a_core,
        stolen=(after.stolen - before.stolen) / ticks_of_a_core,
        throttled=after.throttled != before.throttled,
        clock=after.clock,
        celsius=after.celsius,
    )


def numbers(files: Iterable[Path]) -> Iterator[float]:
    """The numbers in those of the files that can be read: a thermal zone may refuse."""
    for file in files:
        try:
            yield float(file.read_text())
        except (OSError, ValueError):
            continue


def throttled(groups: Iterable[Path]) -> Iterator[int]:
    """Of each control group: how often and for how long it was throttled. Version 1 counts `throttled_time`, in ns."""
    for group in groups:
        try:
            counters = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        yield from (int(counters.get(key, 0)) for key in ("nr_throttled", "throttled_usec", "throttled_time"))


def disturbances(seen: Seen | None, free: int, fastest: float | None) -> list[str]:
    """What disturbed a turn; nothing if it was not watched.

    `free` is the number of cores that the engine does not use: others may use them. `fastest` is the highest clock of all
    turns.
    """
    if seen is None:
        return []
    found = {
        "load of other processes": seen.others > free + OTHERS,
        "steal time": seen.stolen > STEAL,
        "throttling by the CPU quota": seen.throttled,
        "a lower clock": seen.clock is not None and fastest is not None and seen.clock < CLOCK * fastest,
    }
    return [what for what, disturbed in found.items() if disturbed]
