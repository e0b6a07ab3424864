"""model -> model with fewer channels (model.json, model.safetensors).

Structured pruning over dependency groups (DepGraph, Fang et al. 2023, arXiv:2301.12900) by torch-pruning.
"""

import copy
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from pydantic import Field
from torch import nn

from compress.fit import top1
from compress.importance import Importance, accumulate_gradients, group_importance
from data.loader import Split, batches
from models.batchnorm import reestimate
from models.blocks import SplitBlock
from models.checkpoint import AnySpec, classifier, load, rebuilt, respecified, save
from models.cost import cost
from models.resnet import ResNet, blocks_of
from pipeline.config import Config


class Prune(Config):
    """`pruning_ratio` is the share of channels that goes; a budget overrides it with the smallest ratio that fits.

    round_to          channel counts stay multiples of this: INT8 kernels fall back to floating point on odd ones
    residual          whether the channels of the residual stream are pruned too, or only those inside the blocks
    gradient_images   training images for Taylor gradients
    norm_images       training images to re-estimate batch norm on
    """

    pruning_ratio: float = Field(default=0.5, ge=0, lt=1)
    importance: Importance = "l2"
    global_pruning: bool = False
    residual: bool = True
    round_to: int = 16
    gradient_images: int = 512
    norm_images: int = 2048
    max_params: float | None = None
    max_macs: float | None = None


def prune(config: Prune, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Prune `model` and re-estimate its batch norm. A user's own network that cannot be pruned keeps its channels, with a note.

    Raises ValueError when a budget cannot be met, with the least that can be had.
    """
    network, spec = load(model)
    split = Split(images, "train")
    channels, height, width = split.dataset["input_shape"]
    shape = (channels, height, width)
    before = cost(network, shape)
    if config.importance == "taylor":
        accumulate_gradients(network, batches(split, 64, shuffle=True, limit=config.gradient_images))
    ratio, notes = config.pruning_ratio, []
    try:
        if config.max_params is not None or config.max_macs is not None:
            ratio = smallest_ratio(network, spec, config, shape)
        pruned = cut(network, spec, config, ratio, shape)
    except CannotPrune as hindrance:
        if config.max_params is not None or config.max_macs is not None:
            raise ValueError(f"BUDGET cannot be met: {hindrance}; pass no BUDGET for this MODEL") from hindrance
        pruned, ratio, notes = network, 0.0, [f"Pruning was left out: {hindrance}."]
    if ratio and any(isinstance(block, SplitBlock) for block in pruned.modules()):
        notes = [
            f"Inside the blocks of {spec.arch} nothing is pruned, since they split their channels evenly: only between them."
        ]
    spec = respecified(pruned, spec)
    val = Split(images, "val")
    unpruned, untouched = top1(network, val), top1(pruned, val)
    if ratio:
        reestimate(pruned, (x for x, _ in batches(split, 128, shuffle=True, limit=config.norm_images)))
    save(pruned, spec, out)
    after = cost(pruned, shape)
    return {
        "pruning_ratio": ratio,
        "before": before,
        "after": after,
        "val_top1": {"unpruned": unpruned, "pruned": untouched, "norm_reestimated": top1(pruned, val)},
        "spec": spec.model_dump(),
        "notes": notes,
    }


class CannotPrune(Exception):
    """Why torch-pruning cannot prune this network."""


def cut(network: nn.Module, spec: AnySpec, config: Prune, ratio: float, shape: tuple[int, int, int]) -> nn.Module:
    """A copy of `network` without `ratio` of its channels; gradients, when there are any, are copied along.

    Raises CannotPrune when torch-pruning fails, or what it leaves cannot be rebuilt or computes something else.
    """
    pruned = copy.deepcopy(network)
    for mine, theirs in zip(pruned.parameters(), network.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    try:
        pruner = tp.pruner.BasePruner(
            pruned,
            x,
            importance=group_importance(config.importance),
            pruning_ratio=ratio,
            pruning_ratio_dict={} if config.global_pruning else highest_ratios(pruned, ratio, config.round_to),
            global_pruning=config.global_pruning,
            isomorphic=config.global_pruning,
            max_pruning_ratio=0.9,
            round_to=config.round_to,
            ignored_layers=kept_whole(pruned, spec, config),
        )
        pruner.step()
        pruned.zero_grad()
        with torch.inference_mode():
            same = torch.allclose(rebuilt(pruned, spec)(x), pruned.eval()(x), atol=1e-4)
    except Exception as error:  # a user's own network may do what torch-pruning does not know
        reason = (str(error).splitlines() or [""])[0]
        raise CannotPrune(f"torch-pruning cannot take channels from {spec.arch} ({type(error).__name__}: {reason})") from error
    if not same:
        raise CannotPrune(f"{spec.arch} cannot be rebuilt from its pruned weights")
    return pruned


def kept_whole(network: nn.Module, spec: AnySpec, config: Prune) -> list[nn.Module]:
    """Layers whose output channels stay: the classifier, Res2Net's equal splits, the residual stream unless it is wanted."""
    kept = [classifier(network, spec)]
    for block in network.modules():
        if isinstance(block, SplitBlock):
            kept += block.convolutions()[:-1]
    if not config.residual and isinstance(network, ResNet):
        kept += residual_convolutions(network)
    return kept


def highest_ratios(network: nn.Module, ratio: float, round_to: int) -> dict[nn.Module, float]:
    """For layers of which `ratio` would leave fewer than `round_to` channels, what leaves just that many.

    torch-pruning skips such layers altogether, and a higher ratio would give a larger network.
    """
    widths = {m: m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)}
    return {m: max(0.0, 1 - round_to / width) for m, width in widths.items() if width * (1 - ratio) < round_to}


def residual_convolutions(network: ResNet) -> list[nn.Module]:
    """The convolutions that write to the residual stream."""
    layers: list[nn.Module] = [network.conv1]
    for blocks in blocks_of(network):
        for block in blocks:
            layers.append(block.convolutions()[-1])
            if block.downsample is not None:
                layers.append(block.downsample[0])
    return layers


def smallest_ratio(network: nn.Module, spec: AnySpec, config: Prune, shape: tuple[int, int, int]) -> float:
    """The smallest pruning ratio, to two decimals, that meets the budget; found by bisection (cost falls with the ratio)."""

    def excess(percent: int) -> list[str]:
        found = cost(cut(network, spec, config, percent / 100, shape), shape)
        limits = (("params", found["params"], config.max_params), ("macs", found["macs"], config.max_macs))
        return [f"{name} {n:,} > {limit:,.0f}" for name, n, limit in limits if limit is not None and n > limit]

    low, high = 0, 89
    if not excess(low):
        return 0.0
    if over := excess(high):
        raise ValueError(f"the budget cannot be met: at the highest pruning ratio, 0.{high}, {', '.join(over)}; allow more")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) else (low, middle)
    return high / 100
