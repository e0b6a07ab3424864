"""Images per second of engines by batch size."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.console import progress
from measure.calls import Runner, named, seconds_of, warm
from measure.engines import Measure


def throughput(
    config: Measure, runners: Mapping[str, Runner], inputs: Mapping[str, np.ndarray], largest: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """{engine: the points of its curve, by batch size}; at each size all engines take a turn. `inputs` are [N, C, H, W]."""
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    sizes = sorted(set(config.throughput))
    with progress() as bar:
        task = bar.add_task("throughput", total=len(sizes) * len(runners))
        for batch in sizes:
            for name, run in runners.items():
                x = np.resize(inputs[name], (batch, *inputs[name].shape[1:]))
                if batch <= largest[name] and affordable(curves[name], batch, config.longest):
                    with named(name):
                        curves[name].append(throughput_of(run, x, config))
                bar.advance(task)
    return curves


def affordable(points: list[dict[str, Any]], batch: int, longest: float) -> bool:
    """Whether a call with `batch` images is expected to take at most `longest` seconds, at the speed of the last point."""
    return not points or points[-1]["ms"] * batch / points[-1]["batch"] <= 1000 * longest


def throughput_of(run: Runner, x: np.ndarray, config: Measure, seconds: float = 0.3) -> dict[str, Any]:
    """The point of one batch size, from calls during `seconds` or more, at least one. `ms` is the median time of a call."""
    warm(run, x, config.warmup)
    taken = [seconds_of(run, x)]
    while (spent := sum(taken)) < seconds or (len(taken) < config.calls and spent < config.longest):
        taken.append(seconds_of(run, x))
    p50, p90 = 1000 * np.percentile(taken, (50, 90))
    return {
        "batch": len(x),
        "images_per_s": round(len(taken) * len(x) / sum(taken), 1),
        "ms": round(float(p50), 4),
        "p90_ms": round(float(p90), 4),
        "n": len(taken),
    }
