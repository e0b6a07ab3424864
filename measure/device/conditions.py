"""What a device did while engines were timed there -> whether its latencies may count: "throttled: …", "busy: …" or None."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from measure.latency import Turn, fastest
from measure.watch import OTHERS, Sample, Seen, disturbances, seen_between

MOST = 1 / 3  # of the turns disturbed
LIMITS = {0: "under-voltage", 1: "a capped clock", 2: "throttling", 3: "the soft temperature limit"}  # bits of get_throttled
SINCE = 16  # the same bits, moved by so many: it happened since the device was started
CLOCK, LOAD = "a lower clock", ("load of other processes", "steal time")  # of measure/watch.py `disturbances`

Conditions = Mapping[str, Any]  # of export/device/machine.py `conditions`


def sample_of(counters: Mapping[str, Any] | None) -> Sample | None:
    """The counters that the device sent."""
    return Sample(**counters, throttled=()) if counters else None


def seen_by(turn: Mapping[str, Any], cpus: int) -> Seen | None:
    return seen_between(sample_of(turn["before"]), sample_of(turn["after"]), cpus)


def hindrance(before: Conditions, after: Conditions, rounds: Sequence[Mapping[str, Turn]], free: int) -> str | None:
    """Why latencies that were measured between `before` and `after` do not count. `free`: cores that the engines do not use."""
    return throttled(before, after) or busy(before, free) or disturbed(rounds, free)


def throttled(before: Conditions, after: Conditions) -> str | None:
    """What `vcgencmd get_throttled` of a Raspberry Pi says: something limits the clock now, or did while engines were timed."""
    first, last = bits_of(before["throttled"]), bits_of(after["throttled"])
    new = (last >> SINCE) & ~(first >> SINCE)
    found = [what for bit, what in LIMITS.items() if (first | last | new) >> bit & 1]
    return f"throttled: {', '.join(found)} (vcgencmd get_throttled: {after['throttled']})" if found else None


def bits_of(said: str | None) -> int:
    """ "throttled=0x50005" -> 0x50005; 0 if nothing was said."""
    found = re.search(r"0x[0-9a-fA-F]+", said or "")
    return int(found[0], 16) if found else 0


def busy(before: Conditions, free: int) -> str | None:
    """Whether other processes used the cores during the second before the measurement."""
    seen = seen_by(before, before["cpus"])
    if seen is None or seen.others <= free + OTHERS:
        return None
    return f"busy: other processes use {seen.others:.1f} of {before['cpus']} cores"


def disturbed(rounds: Sequence[Mapping[str, Turn]], free: int) -> str | None:
    """Whether too many turns were disturbed, by a lower clock or by load."""
    highest = fastest(rounds)
    found = [disturbances(turn.seen, free, highest) for each in rounds for turn in each.values()]
    slow, loaded = (sum(bool(set(reasons) & set(which)) for reasons in found) for which in ((CLOCK,), LOAD))
    if slow > MOST * len(found):
        return f"throttled: the clock was below 0.8 of its highest value in {slow} of {len(found)} turns"
    if loaded > MOST * len(found):
        return f"busy: other processes used the cores in {loaded} of {len(found)} turns"
    return None
