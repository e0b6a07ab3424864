"""model -> which makes its INT8 engine quicker: fewer channels or fewer blocks (metrics only). Nothing is trained.

The latency of an engine depends on the shapes of its layers, not on their weights: it does not matter which channels go.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from compress.budget import Measured, OutOfReach
from compress.cut import cut
from compress.drop_blocks import droppable, without_skipped
from compress.prunable import CannotPrune
from compress.prune import Prune
from compress.ratio import ratio_without
from compress.search import without_ranking
from core.config import Config
from data.loader import Split
from models.checkpoint import load
from models.cost import cost
from models.resnet import ResNet, Spec

CLEARLY = 0.9  # of the latency: a difference below this is not worth another way of pruning
LEAST = 0.1  # of the MACs: the difference between networks that are closer cannot be measured


class Fewer(Config):
    """`target` and its `options` build the engines. `removed`: at most this share of the MACs goes for the comparison."""

    target: str
    options: dict[str, Any] = Field(default_factory=dict)
    threads: int | None = None
    prune: Prune = Prune()
    removed: float = Field(default=0.5, gt=0, lt=1)


def fewer(
    config: Fewer, out: Path, *, model: Path, images: Path, baseline: Path, trial: Callable[..., list[Measured]]
) -> dict[str, Any]:
    """Time the INT8 engines of `model` with all its channels and blocks, with fewer channels, and with fewer blocks.

    `fewer` in the metrics is "blocks" where fewer blocks are clearly quicker at equal MACs, else "channels"; `p50` has
    milliseconds. `trial`: see compress/search.py.
    """
    network, spec = load(model)
    channels, height, width = Split(images, "train").dataset["input_shape"]
    shape = (channels, height, width)
    if not (isinstance(network, ResNet) and isinstance(spec, Spec)):
        return {"fewer": "channels"}
    shallow, removed = shallower(network, spec, config.removed, shape)
    if removed < LEAST:
        return {"fewer": "channels"}
    once = without_ranking(config.prune).model_copy(update={"scope": "global"})  # one step of all layers would be too large
    try:
        ratio, _ = ratio_without(network, spec, once, removed, shape)
        narrow = cut(network, spec, once.model_copy(update={"pruning_ratio": ratio}), shape)
    except (CannotPrune, OutOfReach):  # fewer channels cannot do the same
        return {"fewer": "blocks"}
    networks = {"all": network, "channels": narrow, "blocks": shallow}
    times = trial(list(networks.values()), config.target, options=config.options, threads=config.threads, images=images,
                  baseline=baseline, exact=False)  # fmt: skip
    p50 = {name: its["p50"] for name, its in zip(networks, times, strict=True)}
    quicker = "blocks" if p50["blocks"] < CLEARLY * p50["channels"] else "channels"
    return {"fewer": quicker, "p50": p50, "removed": removed}


def shallower(network: ResNet, spec: Spec, most: float, shape: tuple[int, int, int]) -> tuple[nn.Module, float]:
    """`network` without as many blocks as have the share `most` of its MACs, or less, from all stages; and their share."""
    whole = cost(network, shape)["macs"]
    blocks = droppable(network)
    for block in blocks[::2] + blocks[1::2]:
        block.skipped = True
        block.skipped = 1 - cost(network, shape)["macs"] / whole <= most
    shallow, *_ = without_skipped(network, spec)
    for block in blocks:
        block.skipped = False
    return shallow, 1 - cost(shallow, shape)["macs"] / whole
