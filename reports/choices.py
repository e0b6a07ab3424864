"""Engines of one target -> which to choose, in words, and which of them do not differ significantly in accuracy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from measure.statistics import tango_interval
from reports import numbers
from reports.comparison import Choice, Engine
from reports.speed import quicker

Right = Mapping[str, NDArray[np.bool_]]  # by row id: whether the engine is right about each test image


def choices(engines: list[Engine], right: Right) -> list[Choice]:
    """The quickest, the most accurate and the smallest of the measured engines that ship; none if there is no such engine."""
    able = [engine for engine in engines if engine.ships and engine.drop and p50(engine)]
    orders: tuple[tuple[Literal["quickest", "most accurate", "smallest"], Callable[[Engine], tuple[float, float]]], ...] = (
        ("quickest", lambda engine: (p50(engine), -top1(engine))),
        ("most accurate", lambda engine: (-top1(engine), p50(engine))),
        ("smallest", lambda engine: (engine.size_bytes or 0, p50(engine))),
    )
    return [
        Choice(what=what, engine=found.id, text=described(found), note=note_of(what, found, able, right))
        for what, order in orders
        for found in sorted(able, key=order)[:1]
    ]


def p50(engine: Engine) -> float:
    return engine.latency_ms.p50 if engine.latency_ms else 0.0


def top1(engine: Engine) -> float:
    return engine.accuracy.top1 if engine.accuracy else 0.0


def described(engine: Engine) -> str:
    doubt = engine.drop is not None and engine.drop.verdict == "inconclusive"
    return (
        f"{engine.label}: p50 {numbers.milliseconds(p50(engine))}, top-1 {top1(engine):.2f} %, "
        f"{numbers.megabytes(engine.size_bytes)}{'; its gate verdict is inconclusive' if doubt else ''}"
    )


def note_of(what: str, engine: Engine, others: list[Engine], right: Right) -> str | None:
    notes = [as_fast(engine, others) if what == "quickest" else None, alike(engine, others, right)]
    return " ".join(note for note in notes if note) or None


def as_fast(engine: Engine, others: list[Engine]) -> str | None:
    """A note with those of `others` that were not slower than `engine` in 9 of 10 turns."""
    ours = engine.latency_ms
    found = [o.label for o in others if o is not engine and ours and o.latency_ms and not quicker(ours, o.latency_ms)]
    return f"About as fast: {', '.join(found)}." if found else None


def alike(engine: Engine, others: list[Engine], right: Right) -> str | None:
    """A note with those of `others` whose accuracy does not differ significantly from that of `engine`."""
    found = []
    for other in others:
        if other is engine:
            continue
        ours, theirs = right[engine.id], right[other.id]
        more, fewer, n = int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs)), len(ours)
        low, high = tango_interval(more, fewer, n)
        if low <= 0 <= high:
            interval = f"95 % interval {numbers.signed(low)} … {numbers.signed(high)}"
            found.append(f"{other.label} ({numbers.signed(100 * (more - fewer) / n)} points, {interval})")
    if not found:
        return None
    return f"On these {n:,} images, its accuracy does not differ significantly from that of {', '.join(found)}."


def notes(engines: list[Engine], gate: str) -> Iterator[str]:
    """Why nothing can be chosen (`gate` are the limits), and the baselines that beat an engine on the front, which has none."""
    candidates = [engine for engine in engines if engine.network == "student"]
    measured = [engine for engine in candidates if engine.drop]
    if not measured:
        reasons = dict.fromkeys(engine.reason for engine in candidates if engine.reason)
        yield f"No engine that could ship was measured here{': ' if reasons else ''}{'; '.join(map(str, reasons))}."
    elif not any(engine.ships for engine in measured):
        yield f"No model passes the gate ({gate}) here."
    for engine in measured:
        for baseline in engines:
            if engine.front and baseline.network == "baseline" and beats(baseline, engine):
                yield (
                    f"The FP32 baseline of {baseline.model} is no slower than {engine.label} and no less accurate: "
                    f"{numbers.milliseconds(p50(baseline))} and {top1(baseline):.2f} % against "
                    f"{numbers.milliseconds(p50(engine))} and {top1(engine):.2f} %."
                )


def beats(a: Engine, b: Engine) -> bool:
    return bool(p50(a) and p50(b)) and p50(a) <= p50(b) and top1(a) >= top1(b)
