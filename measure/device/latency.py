"""engines -> their latencies in turns, throughput and memory on a device (metrics); or why there is no latency."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.console import progress
from data.loader import Split
from measure.device.conditions import hindrance, seen_by
from measure.device.link import Member, Reach
from measure.device.pixels import encoded, scaling
from measure.device.predict import described, files_of
from measure.engines import Measure
from measure.latency import Turn, fastest, machine, summary
from measure.turns import ratios


class Heard:
    """The messages of the device about one measurement."""

    def __init__(self) -> None:
        self.conditions: list[dict[str, Any]] = []
        self.turns: list[dict[str, Any]] = []
        self.throughput: dict[str, list[dict[str, Any]]] = {}
        self.alone: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}

    def hear(self, message: dict[str, Any]) -> None:
        if "conditions" in message:
            self.conditions.append(message["conditions"])
        elif "turns" in message:
            self.turns.append(message["turns"])
        elif "throughput" in message and message["point"]:
            self.throughput.setdefault(message["throughput"], []).append(message["point"])
        elif "alone" in message:
            self.alone[message["alone"]] = {key: value for key, value in message.items() if key != "alone"}
        elif "refused" in message:
            self.refused[message["refused"]] = message["reason"]


def latency_on_device(config: Measure, out: Path, *, reach: Reach, engines: dict[str, Path], images: Path) -> dict[str, Any]:
    """Time engines on a device in turns. `engines` are bundles by name; `reach` does a job there (measure/device/link.py).

    The metrics are those of measure/latency.py `latency` without repeated turns, and
    alone        {engine: memory_bytes and first_inference_ms, or a note}
    conditions   of the device before and after: clocks, temperatures, throttling, free memory, load
    unmeasured   why there is no latency, "throttled: …" or "busy: …"; else None
    refused      {engine: why it does not run there}
    Raises DeviceError.
    """
    split = Split(images, "test")
    first = next(encoded(split, [list(range(min(len(split), max((1, *config.throughput)))))]))
    scale, offset = scaling(split.spec)
    job = {
        "do": "latency", "engines": described(engines), "scale": scale, "offset": offset, "turns": config.planned_turns,
        "queries": -(-config.queries // config.planned_turns), "seconds": config.seconds / config.planned_turns,
        "warmup": config.warmup, "throughput": sorted(set(config.throughput)), "calls": config.calls, "longest": config.longest,
    }  # fmt: skip

    def members() -> Iterator[Member]:
        yield from files_of(engines)
        yield "first.npz", first

    heard = Heard()
    with progress() as bar:
        task = bar.add_task("latency on the device", total=config.planned_turns)
        for message in reach(job, members):
            if "again" in message:  # the connection was lost: all turns of a measurement have to be of one hour
                heard = Heard()
            heard.hear(message)
            bar.update(task, completed=len(heard.turns))
    return metrics_of(config, heard)


def metrics_of(config: Measure, heard: Heard) -> dict[str, Any]:
    before, after = heard.conditions
    threads, cpus = before["threads"], before["cpus"]
    free = cpus - threads
    rounds = [{name: Turn(turn["taken"], seen_by(turn, cpus)) for name, turn in each.items()} for each in heard.turns]
    names = list(rounds[0]) if rounds else []
    unmeasured = hindrance(before, after, rounds, free)
    found: dict[str, Any] = {"timed": {}, "throughput": {}}
    if names and not unmeasured:
        found = {
            "timed": {name: summary([each[name] for each in rounds], config, free, fastest(rounds)) for name in names},
            "ratios": ratios({name: [each[name].taken for each in rounds] for name in names}),
            "machine": machine(rounds, rounds, free),
            "throughput": heard.throughput,
        }
    return {
        "batch": 1,
        "threads": threads,
        **found,
        "alone": {name: of_process(alone, unmeasured) for name, alone in heard.alone.items()},
        "conditions": {"before": shown(before), "after": shown(after)},
        "unmeasured": unmeasured,
        "refused": heard.refused,
        "notes": [f"{name} was not measured alone on the device: {each['note']}" for name, each in heard.alone.items()
                  if "note" in each],
    }  # fmt: skip


def of_process(alone: dict[str, Any], unmeasured: str | None) -> dict[str, Any]:
    """Memory does not depend on the clock; the time to the first inference does."""
    hidden = {"note", "first_inference_ms"} if unmeasured else {"note"}
    return {key: value for key, value in alone.items() if key not in hidden}


def shown(conditions: dict[str, Any]) -> dict[str, Any]:
    """The conditions without the counters."""
    return {key: value for key, value in conditions.items() if key not in ("before", "after", "threads")}
