"""model + images -> the widths that meet a budget with the least loss of importance (plan.json).

As in NetAdapt (Yang et al. 2018, arXiv:1804.03230), the limits are measured on engines of networks that are not fine-tuned yet.
  1. The widest and the narrowest network are measured. The search ends here if the widest one meets the budget, or if the
     narrowest one does not.
  2. Networks with one kind of channels halved (of one resolution, inside the blocks or between them), and networks with all
     channels reduced, are timed in turns. Latency = overhead + MACs and values written at each resolution is fitted to them.
  3. Starting from the widest network, groups of channels are narrowed one after the other: always the group that saves most
     per importance.
  4. Bisection finds the network on this path that meets the budget, on engines that are built and measured.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy.optimize import nnls
from torch import nn

from compress.budget import Budget, Limit, Measured, OutOfReach, refuse, unmet
from compress.cut import cut
from compress.device import device_batches
from compress.importance import accumulate_gradients
from compress.prunable import CannotPrune
from compress.prune import Prune
from compress.widths import Graph, graph_of
from core.config import Config
from data.loader import Split
from models.checkpoint import load
from models.cost import cost

Amounts = Callable[[np.ndarray], np.ndarray]  # widths [..., groups] -> what each limit counts [..., limits]
AIM = 0.97  # of a measured limit: the next measurement will differ
CLOSE = 0.94  # of a limit: close enough to end the search
TRIES = 8


class Search(Config):
    """The budget, the settings of `prune`, and how engines are built (options by target) and timed.

    `notes`: whether the report says what the limits come to; not if no user set them.
    """

    budget: Budget
    prune: Prune = Prune()
    targets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    threads: int | None = None
    notes: bool = True


def search(
    config: Search, out: Path, *, model: Path, images: Path, baseline: Path, trial: Callable[..., list[Measured]]
) -> dict[str, Any]:
    """Write {"ratios": {convolution: pruning ratio}} to `out`/plan.json, the plan by which `prune` prunes `model`.

    `trial(networks, target, options=, threads=, images=, baseline=, exact=)` builds INT8 engines and returns for each network
    {"p50": ms, "size": bytes, "baseline": ms}. `baseline` is the folder of the FP32 baseline's model.onnx. With `exact` the
    engines are built exactly like those that ship.
    Raises OutOfReach when the budget cannot be met, with the lowest measurements that are possible.
    """
    network, spec = load(model)
    split = Split(images, "train")
    channels, height, width = split.dataset["input_shape"]
    shape = (channels, height, width)
    read = device_batches(split, 64, shuffle=True, limit=config.prune.gradient_images)
    accumulate_gradients(config.prune.importance, network, read)

    def measured(networks: Sequence[nn.Module], exact: bool) -> list[Measured]:
        counted = [cost(one, shape) for one in networks]
        found: list[Measured] = [{"params": one["params"], "macs": one["macs"]} for one in counted]
        for target in config.budget.targets:
            timed = trial(networks, target, options=config.targets.get(target, {}), threads=config.threads, images=images,
                            baseline=baseline, exact=exact)  # fmt: skip
            for one, its in zip(found, timed, strict=True):
                share = its["p50"] / its["baseline"]
                one |= {f"size@{target}": its["size"], f"latency@{target}": its["p50"], f"share@{target}": share}
        return found

    limits = config.budget.limits()
    try:
        graph = graph_of(network, spec, config.prune, shape)
        once = without_ranking(config.prune)
        bench = Bench(graph, lambda ratios: cut(network, spec, once, shape, ratios), measured)
        widest, narrowest = bench.measure([graph.full, graph.smallest], exact=True)
        refuse(limits, narrowest, spec.arch, remedy(config.prune))
        widths, found = graph.full, widest
        if unmet(limits, widest):
            widths, found = settle(graph, limits, bench, predictor(bench, limits, widest, narrowest), narrowest)
    except CannotPrune as reason:
        raise cannot_be_met(reason) from reason
    (out / "plan.json").write_text(json.dumps({"ratios": graph.ratios(widths)}, indent=1))
    lost = graph.loss(widths).sum() / graph.writers.sum()
    return {
        "limits": {limit.key: limit.most for limit in limits},
        "measured": found,
        "unpruned": widest,
        "smallest": narrowest,
        "networks": bench.measurements,
        "importance_kept": round(float(np.exp(-lost)), 4),
        "widths": {group.name: [group.full, int(w)] for group, w in zip(graph.groups, widths, strict=True)},
        "notes": [
            f"BUDGET {limit.text}: before fine-tuning, {spec.arch} has {limit.describe(found)} with the widths found, and "
            f"{limit.describe(widest)} unpruned."
            for limit in limits
            if config.notes
        ],
    }


def without_ranking(config: Prune) -> Prune:
    """The quickest way to networks of given widths: which channels go does not matter for what they cost."""
    return config.model_copy(update={"pruning_ratio": 0.0, "steps": 1, "importance": "random"})


def remedy(config: Prune) -> str:
    """What the user can do if the narrowest network exceeds a limit."""
    whole = "" if config.residual else ", or --set prune.residual=true: here channels go inside the blocks only"
    return f"allow more{whole}"


def cannot_be_met(reason: CannotPrune) -> OutOfReach:
    return OutOfReach(f"BUDGET cannot be met: {reason}; pass no BUDGET for this MODEL")


@dataclass
class Bench:
    """Builds networks of given widths and measures them."""

    graph: Graph
    cut: Callable[[dict[str, float]], nn.Module]
    measured: Callable[[Sequence[nn.Module], bool], list[Measured]]
    measurements: int = 0

    def network(self, widths: np.ndarray) -> nn.Module:
        return self.cut(self.graph.ratios(widths))

    def measure(self, many: Sequence[np.ndarray], exact: bool) -> list[Measured]:
        self.measurements += len(many)
        return self.measured([self.network(widths) for widths in many], exact)


def predictor(bench: Bench, limits: Sequence[Limit], widest: Measured, narrowest: Measured) -> Amounts:
    """A function that predicts, for networks of any widths, the measurement of each limit."""
    graph, samples, found = bench.graph, [bench.graph.full, bench.graph.smallest], [widest, narrowest]
    if any(limit.timed for limit in limits):
        # The widest and the narrowest network are timed again: only times of the same minutes can be compared.
        samples += probes(graph)
        found = bench.measure(samples, exact=False)
    at = np.stack(samples)
    fits: list[Amounts] = []
    for limit in limits:
        if limit.exact:
            fits.append(graph.params if limit.key == "params" else graph.macs)
        elif limit.timed:
            fits.append(fitted(graph.work, at, np.array([one[limit.key] for one in found])))
        else:
            fits.append(fitted(graph.storage, at[:2], np.array([one[limit.key] for one in (widest, narrowest)])))
    return lambda widths: np.stack([fit(widths) for fit in fits], axis=-1)


def fitted(features: Amounts, at: np.ndarray, values: np.ndarray) -> Amounts:
    """The sum of `features`, with weights >= 0, that has the smallest relative error to `values` [n] at `at` [n, groups]."""
    unit = features(at).max(axis=0)
    weights, _ = nnls(features(at) / unit / values[:, None], np.ones(len(values)))
    return lambda widths: np.asarray(features(widths) / unit @ weights)


def probes(graph: Graph) -> list[np.ndarray]:
    """Widths to time: one kind of channels halved and the others whole, and all channels at 3/4, 1/2 and 1/4."""
    every = np.full(len(graph.groups), True)
    kinds = [(group.pixels, group.writers > 1) for group in graph.groups]
    halved = [np.array([kind == chosen for kind in kinds]) for chosen in sorted(set(kinds))]
    return [
        np.where(chosen, graph.scaled(share), graph.full)
        for chosen, share in [*((one, 1 / 2) for one in halved), *((every, share) for share in (3 / 4, 1 / 2, 1 / 4))]
    ]


def narrowing(graph: Graph, amounts: Amounts, most: np.ndarray) -> np.ndarray:
    """Widths [steps, groups] from the widest to the narrowest, each with one group narrower than the one before.

    It is the group that loses the least importance per saving. The saving is the share of a limit in `most` [limits], summed
    over the limits that are not met yet.
    """
    widths = graph.full
    path = [widths]
    while (widths > graph.smallest).any():
        less = np.where(np.eye(len(widths), dtype=bool), graph.narrower(widths), widths)
        now = amounts(widths)
        wanted = now > most if (now > most).any() else np.full(len(most), True)
        saved = ((now - amounts(less)) / most)[:, wanted].sum(axis=1)
        lost = np.diagonal(graph.loss(less)) - graph.loss(widths)
        price = np.where(np.diagonal(less) < widths, lost / np.maximum(saved, 1e-12), np.inf)
        chosen = int(np.argmin(price))
        widths = less[chosen]
        path.append(widths)
    return np.stack(path)


def settle(
    graph: Graph, limits: Sequence[Limit], bench: Bench, amounts: Amounts, narrowest: Measured
) -> tuple[np.ndarray, Measured]:
    """The widths [groups] of about the widest network on the path that meets the `limits`, and its measurements."""
    most = np.array([limit.most for limit in limits])
    aim = most * [1.0 if limit.exact else AIM for limit in limits]
    path = narrowing(graph, amounts, aim)
    expected = amounts(path)
    low, high, found = 0, len(path) - 1, narrowest  # too wide, narrow enough
    correction = np.ones(len(limits))
    for _ in range(TRIES):
        if high - low <= 1:
            break
        fits = (expected * correction <= aim).all(axis=1)
        place = int(np.clip(np.argmax(fits) if fits.any() else high, low + 1, high - 1))
        (measured,) = bench.measure([path[place]], exact=True)
        got = np.array([measured[limit.key] for limit in limits])
        if (got > most).any():
            low = place
        else:
            high, found = place, measured
            if (got > CLOSE * most).any():
                break
        correction = got / expected[place]
    return path[high], found
