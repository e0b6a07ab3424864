"""model -> model with fewer channels (model.json, model.safetensors).

Structured pruning over dependency groups; which there are and which channels go: compress/groups.py and importance.py.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from compress.fit import top1
from compress.groups import ChannelGroup, Scope, channel_groups, kept_channels, scores_of, thin
from compress.importance import Importance, accumulate_gradients, group_importance
from core.config import Config
from core.text import first_line
from data.loader import Split, batches
from models.batchnorm import reestimate
from models.blocks import SplitBlock
from models.checkpoint import AnySpec, classifier, load, rebuilt, respecified, save
from models.cost import cost
from models.resnet import ResNet, blocks_of


class Prune(Config):
    """`pruning_ratio` is the share of channels that goes, where no plan says otherwise.

    importance        how channels are ranked; see `group_importance`
    scope             what they are ranked among: their own layer's ("local"), those of all layers that are connected alike
                      ("isomorphic"), or all ("global")
    steps             in how many steps, each with batch norm and gradients of its own; nothing is trained in between
    round_to          channel counts stay multiples of this: INT8 kernels fall back to floating point on odd ones
    residual          whether the channels of the residual stream are pruned too, or only those inside the blocks
    gradient_images   labelled training images for the gradients of "taylor" and "fisher"
    norm_images       training images to re-estimate batch norm on
    seed              of "random"
    """

    pruning_ratio: float = Field(default=0.5, ge=0, lt=1)
    importance: Importance = "l2"
    scope: Scope = "local"
    steps: int = Field(default=1, ge=1)
    residual: bool = True
    round_to: int = Field(default=16, ge=1)
    gradient_images: int = Field(default=512, ge=1)
    norm_images: int = Field(default=2048, ge=2)
    seed: int = 0


def prune(config: Prune, out: Path, *, model: Path, images: Path, plan: Path | None = None) -> dict[str, Any]:
    """Prune `model` and re-estimate its batch norm. A user's own network that cannot be pruned keeps its channels, with a note.

    `plan`: a folder with plan.json, {"ratios": {name of a channel group: its own pruning ratio}}, made for a budget.
    Raises ValueError when there is a plan and it cannot be carried out.
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
        pruned = cut(network, spec, config, ratio, shape, ratios, refresh)
    except CannotPrune as hindrance:
        if plan:
            raise ValueError(f"BUDGET cannot be met: {hindrance}; pass no BUDGET for this MODEL") from hindrance
        pruned, ratio, notes = network, 0.0, [f"Pruning was left out: {hindrance}."]
    after = cost(pruned, shape)
    if after != before and any(isinstance(block, SplitBlock) for block in pruned.modules()):
        notes = [
            f"Inside the blocks of {spec.arch} nothing is pruned, since they split their channels evenly: only between them."
        ]
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


def read_plan(folder: Path) -> dict[str, float]:
    return {str(name): float(ratio) for name, ratio in json.loads((folder / "plan.json").read_text())["ratios"].items()}


class CannotPrune(Exception):
    """Why torch-pruning cannot prune this network."""


def cut(
    network: nn.Module,
    spec: AnySpec,
    config: Prune,
    ratio: float,
    shape: tuple[int, int, int],
    plan: Mapping[str, float] | None = None,
    refresh: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A copy of `network` without `ratio` of its channels; of the groups in `plan` (see `prunable`), without theirs.

    `refresh` is called between steps with what is left. "taylor" and "fisher" read the gradients of `network`.
    Raises ValueError for an impossible plan or criterion, CannotPrune when torch-pruning fails, or what it leaves cannot be
    rebuilt or computes something else.
    """
    plan = plan or {}
    if config.importance == "bn_scale" and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
        raise ValueError(f"importance 'bn_scale' ranks by batch norm and MODEL {spec.arch} has none; pass prune.importance=l2")
    pruned = copied(network)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    importance = group_importance(config.importance, config.seed)
    whole: dict[str, int] = {}
    for step in range(1, config.steps + 1):
        if step > 1 and refresh:
            refresh(pruned)
        share = step / config.steps
        with hindrances(spec):
            groups = channel_groups(pruned, x, kept_whole(pruned, spec, config))
        whole = whole or {group.name: group.width // group.parts for group in groups}
        now = {name: share * own for name, own in planned(plan, groups).items()}
        with hindrances(spec):
            scores = scores_of(groups, importance)
            left = kept_channels(groups, scores, whole, share * ratio, now, config.scope, config.round_to)
            thin(groups, scores, left)
    pruned.zero_grad()
    with hindrances(spec), torch.inference_mode():
        same = torch.allclose(rebuilt(pruned, spec)(x), pruned.eval()(x), atol=1e-4)
    if not same:
        raise CannotPrune(f"{spec.arch} cannot be rebuilt from its pruned weights")
    return pruned


@contextmanager
def hindrances(spec: AnySpec) -> Iterator[None]:
    """Tell whatever fails as CannotPrune: a user's own network may do what torch-pruning does not know."""
    try:
        yield
    except Exception as error:
        reason = first_line(error)
        raise CannotPrune(f"torch-pruning cannot take channels from {spec.arch} ({type(error).__name__}: {reason})") from error


def copied(network: nn.Module) -> nn.Module:
    """A copy of `network` with copies of its gradients, when there are any."""
    copy_ = copy.deepcopy(network)
    for mine, theirs in zip(copy_.parameters(), network.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    return copy_


def prunable(network: nn.Module, spec: AnySpec, config: Prune, shape: tuple[int, int, int]) -> list[ChannelGroup]:
    """The channel groups that `config` lets `cut` prune, in the order of the network [C, H, W].

    Raises CannotPrune when torch-pruning cannot tell.
    """
    with hindrances(spec):
        return channel_groups(network, torch.zeros(1, *shape), kept_whole(network, spec, config))


def planned(plan: Mapping[str, float], groups: list[ChannelGroup]) -> dict[str, float]:
    """`plan` by the names of `groups`; any layer that makes the channels of a group may stand for it.

    Raises ValueError when it names none of them, or would take all of one.
    """
    named = {layer: group.name for group in groups for layer in group.layers}
    if unknown := [name for name in plan if name not in named]:
        raise ValueError(f"the plan prunes {', '.join(unknown)}; expected channel groups: {', '.join(g.name for g in groups)}")
    if wrong := [f"{name} {ratio}" for name, ratio in plan.items() if not 0 <= ratio < 1]:
        raise ValueError(f"the plan has the pruning ratio of {', '.join(wrong)}; expected 0 <= ratio < 1")
    return {named[name]: ratio for name, ratio in plan.items()}


def kept_whole(network: nn.Module, spec: AnySpec, config: Prune) -> list[nn.Module]:
    """Layers whose output channels stay: the classifier, Res2Net's equal splits, the residual stream unless it is wanted."""
    kept = [classifier(network, spec)]
    for block in network.modules():
        if isinstance(block, SplitBlock):
            kept += block.convolutions()[:-1]
    if not config.residual and isinstance(network, ResNet):
        kept += residual_convolutions(network)
    return kept


def residual_convolutions(network: ResNet) -> list[nn.Module]:
    """The convolutions that write to the residual stream."""
    layers: list[nn.Module] = [network.conv1]
    for blocks in blocks_of(network):
        for block in blocks:
            layers.append(block.convolutions()[-1])
            if block.downsample is not None:
                layers.append(block.downsample[0])
    return layers
