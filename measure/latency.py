"""engines + images -> their latencies, measured in turns, and their throughput (metrics)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import hardware
from core.console import progress
from measure.calls import Load, Runner, first, named, timed
from measure.engines import Measure, largest_batch
from measure.throughput import throughput
from measure.turns import ratios
from measure.watch import Seen, Watch, disturbances


@dataclass(frozen=True)
class Turn:
    """The seconds of its queries, and what the machine did besides; None where it cannot be watched."""

    taken: list[float]
    seen: Seen | None


QUANTILES = (5, 25, 50, 75, 95)  # percent, for the drawing of the distribution
Round = Mapping[str, Turn]  # a turn of every engine


def latency(
    config: Measure, out: Path, *, load: Load, engines: dict[str, Path], images: Path | dict[str, Path]
) -> dict[str, Any]:
    """Single-stream latency (ms) of engines that take turns, and their throughput by batch size.

    `images` is one folder for all engines, or {engine: folder} if their inputs have different sizes.
    A turn is a warm-up and queries in a row. Turns of all engines alternate, so that a slow minute of the machine affects all
    of them. Within a turn an engine has its own weights in the caches, as on a device that runs one network.

    Raises EngineError for the first engine that fails.
    """
    threads = config.threads or hardware.cores()
    count = max((1, *config.throughput))
    inputs = {name: first(images[name] if isinstance(images, dict) else images, count) for name in engines}
    runners: dict[str, Runner] = {}
    for name, engine in engines.items():
        with named(name):
            runners[name] = load(engine, threads)
    watch = Watch()
    free = len(watch.cpus) - threads
    rounds = take_turns(config, runners, {name: x[:1] for name, x in inputs.items()}, watch, free)
    kept = calmest(rounds, config.planned_turns, free)
    largest = {name: largest_batch(engine) for name, engine in engines.items()}
    return {
        "batch": 1,
        "threads": threads,
        "timed": {name: summary([each[name] for each in kept], config, free, fastest(rounds)) for name in engines},
        "ratios": ratios({name: [each[name].taken for each in kept] for name in engines}),
        "machine": machine(rounds, kept, free),
        "throughput": throughput(config, runners, inputs, largest),
    }


def take_turns(
    config: Measure, runners: Mapping[str, Runner], inputs: Mapping[str, np.ndarray], watch: Watch, free: int
) -> list[Round]:
    """The planned rounds, every other one in reverse order. For each disturbed round there is another one, but in total at
    most as many again. `inputs` are [1, C, H, W]."""
    planned = config.planned_turns
    queries, seconds = -(-config.queries // planned), config.seconds / planned
    rounds: list[Round] = []
    with progress() as bar:
        task = bar.add_task("latency", total=planned)
        while (calm := len(calm_rounds(rounds, free))) < planned and len(rounds) < 2 * planned:
            bar.update(task, completed=calm)
            turns = {}
            for name in list(runners) if len(rounds) % 2 == 0 else list(reversed(list(runners))):
                before = watch.sample()
                with named(name):
                    taken = timed(runners[name], inputs[name], queries, config.warmup, seconds)
                turns[name] = Turn(taken, watch.since(before))
            rounds.append(turns)
        bar.update(task, completed=planned)
    return rounds


def fastest(rounds: Sequence[Round]) -> float | None:
    """The highest clock of all turns, MHz."""
    return max((turn.seen.clock for each in rounds for turn in each.values() if turn.seen and turn.seen.clock), default=None)


def disturbed_turns(each: Round, free: int, highest: float | None) -> int:
    return sum(bool(disturbances(turn.seen, free, highest)) for turn in each.values())


def calm_rounds(rounds: Sequence[Round], free: int) -> list[Round]:
    highest = fastest(rounds)
    return [each for each in rounds if not disturbed_turns(each, free, highest)]


def calmest(rounds: Sequence[Round], count: int, free: int) -> list[Round]:
    """The `count` rounds with the fewest disturbed turns, in the order of their time."""
    highest = fastest(rounds)
    order = sorted(range(len(rounds)), key=lambda i: disturbed_turns(rounds[i], free, highest))
    return [rounds[i] for i in sorted(order[:count])]


def summary(turns: Sequence[Turn], config: Measure, free: int, highest: float | None) -> dict[str, Any]:
    """The figures of one engine, in milliseconds.

    quantiles   of all queries at `QUANTILES`
    turns       p50 of each turn
    spread      the largest of them minus the smallest, as a share of their median
    ended_by    what ended its turns: the number of queries, or the seconds
    disturbed   share of its turns; None if they were not watched
    """
    queries = [second for turn in turns for second in turn.taken]
    milliseconds = 1000 * np.asarray(queries)
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    values = {"p50": p50, "p90": p90, "p99": p99, "mean": milliseconds.mean()}
    medians = 1000 * np.array([np.median(turn.taken) for turn in turns])
    watched = all(turn.seen for turn in turns)
    return {
        "n": len(queries),
        **{key: round(float(value), 4) for key, value in values.items()},
        "quantiles": [round(float(value), 4) for value in np.percentile(milliseconds, QUANTILES)],
        "turns": [round(float(median), 6) for median in medians],
        "spread": round(float(np.ptp(medians) / np.median(medians)), 4),
        "ended_by": "queries" if len(queries) >= config.queries else "seconds",
        "disturbed": float(np.mean([bool(disturbances(turn.seen, free, highest)) for turn in turns])) if watched else None,
    }


def machine(rounds: Sequence[Round], kept: Sequence[Round], free: int) -> dict[str, Any]:
    """What the machine did besides: in how many of the counted turns, and what; `repeated` turns were replaced by calmer ones.

    `others` and `stolen` are the mean number of cores in the counted turns; `clock_mhz` and `celsius` are smallest and largest.
    """
    seen = [turn.seen for each in kept for turn in each.values() if turn.seen]
    if not seen:
        return {"watched": False}
    highest = fastest(rounds)
    reasons = [disturbances(each, free, highest) for each in seen]
    return {
        "watched": True,
        "turns": len(seen),
        "disturbed": sum(map(bool, reasons)),
        "repeated": (len(rounds) - len(kept)) * len(kept[0]),
        "reasons": dict(Counter(reason for found in reasons for reason in found)),
        "others": round(float(np.mean([each.others for each in seen])), 3),
        "stolen": round(float(np.mean([each.stolen for each in seen])), 3),
        "clock_mhz": limits([each.clock for each in seen if each.clock is not None]),
        "celsius": limits([each.celsius for each in seen if each.celsius is not None]),
    }


def limits(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None
