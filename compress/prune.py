"""model -> model with fewer channels (model.json, model.safetensors).

Structured pruning over dependency groups: groups.py finds them, importance.py scores their channels, plan.py says how many
channels of each group stay, cut.py removes the others.
"""

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from compress.cut import cut
from compress.device import device_batches, reestimated
from compress.importance import accumulate_gradients
from compress.plan import Cut, read_plan
from compress.prunable import CannotPrune, unprunable
from compress.top1 import top1
from core.text import some
from data.loader import Split
from models.blocks import SplitBlock
from models.checkpoint import load, respecified, save
from models.cost import cost
from models.resnet import pads


class Prune(Cut):
    """Which channels are removed, and the training images that are read for it.

    gradient_images   labelled images for the gradients of "taylor" and "fisher"
    norm_images       images to re-estimate batch norm on
    """

    gradient_images: int = Field(default=512, ge=1)
    norm_images: int = Field(default=2048, ge=2)


def prune(config: Prune, out: Path, *, model: Path, images: Path, plan: Path | None = None) -> dict[str, Any]:
    """Prune `model` and re-estimate its batch norm. A user's own network that cannot be pruned keeps its channels, with a note.

    `plan`: a folder with plan.json, {"ratios": {name of a channel group: its pruning ratio}}, made for a budget.
    Raises ValueError when there is a plan and the network cannot be pruned by it.
    """
    network, spec = load(model)
    split = Split(images, "train")
    channels, height, width = split.dataset["input_shape"]
    shape = (channels, height, width)
    before = cost(network, shape)
    ratios = read_plan(plan) if plan else {}

    def refresh(changed: nn.Module) -> None:
        reestimated(changed, split, config.norm_images)
        gradients(changed)

    def gradients(changed: nn.Module) -> None:
        read = device_batches(split, 64, shuffle=True, limit=config.gradient_images)
        accumulate_gradients(config.importance, changed, read)

    gradients(network)
    ratio, notes = config.pruning_ratio, []
    stay: list[str] = []
    try:
        stay = unprunable(network, spec, config, shape)
        pruned = cut(network, spec, config, shape, ratios, refresh, stay)
    except CannotPrune as reason:
        if plan:
            raise ValueError(f"BUDGET cannot be met: {reason}; pass no BUDGET for this MODEL") from reason
        pruned, ratio = network, 0.0
        notes = [f"Pruning was left out: {reason}. The network is quantized as it is, and not trained."]
    after = cost(pruned, shape)
    if after != before:
        notes = notes_about(pruned, spec.arch, config, stay)
    spec = respecified(pruned, spec)
    val = Split(images, "val")
    unpruned, untouched = top1(network, val), top1(pruned, val)
    if after != before:
        reestimated(pruned, split, config.norm_images)
    save(pruned, spec, out)
    return {
        "pruning_ratio": ratio,
        "plan": ratios,
        "before": before,
        "after": after,
        "left_out": pruned is network,
        "val_top1": {"unpruned": unpruned, "pruned": untouched, "norm_reestimated": top1(pruned, val)},
        "spec": spec.model_dump(),
        "notes": notes,
    }


def notes_about(pruned: nn.Module, arch: str, config: Prune, stay: list[str]) -> list[str]:
    """Notes about the channels that were not pruned: of Res2Net blocks, of padded shortcuts, and of the groups `stay`."""
    if any(isinstance(block, SplitBlock) for block in pruned.modules()):
        return [f"{arch}: Res2Net blocks keep their inner channels; only channels between blocks were pruned."]
    if config.residual and pads(pruned):
        why = "its shortcuts pad with zero channels, so the residual stream stays whole"
        return [f"{arch}: {why}; only channels inside the blocks were pruned."]
    if stay:
        groups = "channel group" if len(stay) == 1 else "channel groups"
        return [f"{arch}: the {groups} of {some(stay)} cannot be pruned and stayed whole; the others were pruned."]
    return []
