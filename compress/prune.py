"""model -> model with fewer channels (model.json, model.safetensors).

Structured pruning over dependency groups: groups.py finds them, importance.py scores their channels, plan.py says how many
channels of each group stay, cut.py removes the others.
"""

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from compress.cut import CannotPrune, cut
from compress.fit import top1
from compress.importance import accumulate_gradients
from compress.plan import Cut, read_plan
from data.loader import Split, batches
from models.batchnorm import reestimate
from models.blocks import SplitBlock
from models.checkpoint import load, respecified, save
from models.cost import cost


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
        reestimate(changed, (x for x, _ in batches(split, 128, shuffle=True, limit=config.norm_images)))
        gradients(changed)

    def gradients(changed: nn.Module) -> None:
        accumulate_gradients(config.importance, changed, batches(split, 64, shuffle=True, limit=config.gradient_images))

    gradients(network)
    ratio, notes = config.pruning_ratio, []
    try:
        pruned = cut(network, spec, config, shape, ratios, refresh)
    except CannotPrune as reason:
        if plan:
            raise ValueError(f"BUDGET cannot be met: {reason}; pass no BUDGET for this MODEL") from reason
        pruned, ratio, notes = network, 0.0, [f"Pruning was left out: {reason}."]
    after = cost(pruned, shape)
    if after != before and any(isinstance(block, SplitBlock) for block in pruned.modules()):
        notes = [f"{spec.arch}: Res2Net blocks keep their inner channels; only channels between blocks were pruned."]
    spec = respecified(pruned, spec)
    val = Split(images, "val")
    unpruned, untouched = top1(network, val), top1(pruned, val)
    if after != before:
        reestimate(pruned, (x for x, _ in batches(split, 128, shuffle=True, limit=config.norm_images)))
    save(pruned, spec, out)
    return {
        "pruning_ratio": ratio,
        "plan": ratios,
        "before": before,
        "after": after,
        "val_top1": {"unpruned": unpruned, "pruned": untouched, "norm_reestimated": top1(pruned, val)},
        "spec": spec.model_dump(),
        "notes": notes,
    }
