"""images -> the smallest network that pruning can make of MODEL, before it is trained: can it meet the BUDGET at all?

Parameters, multiply-accumulates and the size of an engine depend on widths, not on weights, so a network that was never
trained has them, too. Latency is left to `search`: it needs the trained baseline's engine to compare with.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from compress.budget import Budget, Measured, refuse
from compress.cut import cut
from compress.derive import Derive, shallower
from compress.prunable import CannotPrune
from compress.prune import Prune
from compress.search import cannot_be_met, remedy, without_ranking
from compress.widths import graph_of
from core.config import Config
from models.checkpoint import untrained
from models.cost import cost
from models.resnet import Shortcut, Stem


class Possible(Config):
    """The network that will be trained, the student that is derived from it, and the settings of the search."""

    arch: str
    source: str | None = None
    stem: Stem | None = None
    shortcut: Shortcut | None = None
    student: Derive = Derive()
    budget: Budget
    prune: Prune = Prune()
    targets: dict[str, dict[str, Any]] = Field(default_factory=dict)


def possible(config: Possible, out: Path, *, images: Path, size: Callable[..., float]) -> dict[str, Any]:
    """The parameters, MACs and bytes of the narrowest student.

    `size(network, target, options=, images=)` builds an INT8 engine and returns its bytes.
    Raises ValueError when the narrowest student exceeds a limit that is not about time.
    """
    dataset = json.loads((images / "dataset.json").read_text())
    channels, height, width = dataset["input_shape"]
    shape = (channels, height, width)
    torch.manual_seed(0)
    teacher, spec = untrained(config.arch, len(dataset["classes"]), channels, config.stem, config.shortcut)
    for parameter in teacher.parameters():
        if parameter.ndim == 1:  # new biases are all zero, and a file stores equal constants only once
            nn.init.normal_(parameter)
    network, spec, _ = shallower(config.student, teacher, spec)
    once = without_ranking(config.prune)
    try:
        graph = graph_of(network, spec, once, shape)
        narrowest = cut(network, spec, once, shape, graph.ratios(graph.smallest))
    except CannotPrune as reason:
        raise cannot_be_met(reason) from reason
    counted = cost(narrowest, shape)
    found: Measured = {"params": counted["params"], "macs": counted["macs"]}
    for target in config.budget.max_size:
        found[f"size@{target}"] = size(narrowest, target, options=config.targets.get(target, {}), images=images)
    limits = [limit for limit in config.budget.limits() if not limit.timed]
    refuse(limits, found, spec.arch, remedy(config.prune))
    return {"smallest": found}
