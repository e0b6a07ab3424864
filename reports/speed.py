"""What may be said about speed: faster only where it holds in 9 of 10 turns, and nothing where the machine was busy."""

from collections.abc import Iterator, Sequence

from core.engine_name import EngineName
from core.text import joined
from measure.turns import is_quicker, share_quicker
from reports import numbers
from reports.run_folder import TargetResult
from reports.schema import Latency, Row

BUSY = 1 / 3  # of the turns disturbed at most; with more, no latency of the target is to be quoted
ALIKE = "about as fast"
UNSAID = "not to be quoted"


def disturbed_turns(rows: Sequence[Row], target: str) -> tuple[int, int]:
    """How many turns of the engines of `target` were disturbed, and the number of its turns."""
    timed = [row.latency_ms for row in rows if row.on == target and row.latency_ms]
    disturbed = sum(round((latency.disturbed or 0) * len(latency.turns)) for latency in timed)
    return disturbed, sum(len(latency.turns) for latency in timed)


def is_busy(rows: Sequence[Row], target: str) -> bool:
    disturbed, turns = disturbed_turns(rows, target)
    return disturbed > BUSY * turns


def busy_notes(rows: Sequence[Row]) -> Iterator[str]:
    """The warning of the headline if the machine was busy."""
    timed = list(dict.fromkeys(row.on for row in rows if row.latency_ms))
    busy = [target for target in timed if is_busy(rows, target)]
    if busy:
        disturbed, turns = (sum(counts) for counts in zip(*(disturbed_turns(rows, target) for target in busy), strict=True))
        which = "they" if busy == timed else f"those on {joined(busy)}"
        counted = f"{disturbed} of {turns} turns"
        yield f"The machine was busy while latencies were measured ({counted}): {which} are not to be quoted."


def machine_notes(result: TargetResult) -> Iterator[str]:
    """What disturbed the turns of the target."""
    machine = result.timed.get("machine", {})
    if machine.get("disturbed"):
        reasons = ", ".join(f"{what} in {count}" for what, count in machine["reasons"].items())
        yield (
            f"{machine['disturbed']} of {machine['turns']} turns on {result.target} were disturbed: {reasons}. "
            f"{machine['repeated']} turns were repeated, and the calmest counted."
        )


def differ(ours: Latency, theirs: Latency) -> bool:
    """Whether one of the engines was quicker in 9 of 10 turns."""
    return quicker(ours, theirs) or quicker(theirs, ours)


def quicker(ours: Latency, theirs: Latency) -> bool:
    """Whether the first engine was quicker in 9 of 10 turns; by p50 for runs of earlier versions, which recorded no turns."""
    if ours.turns and theirs.turns:
        return is_quicker(ours.turns, theirs.turns)
    return ours.p50 < theirs.p50


def quicker_turns(ours: Latency, theirs: Latency) -> str:
    """ "quicker in 6 of 10 turns", said of the first engine; nothing for runs of earlier versions."""
    n = len(ours.turns)
    return f", quicker in {round(n * share_quicker(ours.turns, theirs.turns))} of {n} turns" if n and theirs.turns else ""


def speeds_in_words(rows: Sequence[Row]) -> dict[str, str]:
    """By id: how many times as fast as the FP32 baseline of the same target the engine is, if that may be said."""
    latencies = {row.id: row.latency_ms for row in rows}
    busy = {target for target in {row.on for row in rows} if is_busy(rows, target)}
    found = {}
    for row in rows:
        before, after = latencies.get(str(EngineName.baseline(row.on))), row.latency_ms
        if row.speedup is None or before is None or after is None:
            found[row.id] = numbers.DASH
        elif row.on in busy:
            found[row.id] = UNSAID
        else:
            same = row.network == "baseline" or differ(after, before)
            found[row.id] = numbers.times(row.speedup) if same else ALIKE
    return found
