"""A network -> a copy of it with fewer channels.

The ranking is ours: torch-pruning's leaves a layer whole when rounding would take all of it, and with it grouped convolutions
of few channels a group (ResNeXt).
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compress.groups import ChannelGroup, channel_groups, scores_of
from compress.importance import group_importance
from compress.plan import Cut, kept_channels, planned
from core.text import first_line
from models.blocks import SplitBlock
from models.checkpoint import AnySpec, classifier, rebuilt
from models.resnet import ResNet, blocks_of, pads


class CannotPrune(Exception):
    """Why torch-pruning cannot prune this network."""


def cut(
    network: nn.Module,
    spec: AnySpec,
    config: Cut,
    shape: tuple[int, int, int],
    plan: Mapping[str, float] | None = None,
    refresh: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A copy of `network` without a share of its channels: the ratio of the `plan`, or else of `config`.

    `refresh` is called between steps with the network so far. "taylor" and "fisher" read the gradients of `network`.
    Raises ValueError for an impossible plan or criterion, CannotPrune when torch-pruning fails, or when the pruned network
    cannot be rebuilt from its weights or then computes something else.
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
        with as_cannot_prune(spec):
            groups = channel_groups(pruned, x, kept_whole(pruned, spec, config))
        whole = whole or {group.name: group.width // group.parts for group in groups}
        ratios = planned(plan, groups)
        with as_cannot_prune(spec):
            scores = scores_of(groups, importance)
            left = kept_channels(groups, scores, whole, config, ratios, step / config.steps)
            thin(groups, scores, left)
    pruned.zero_grad()
    with as_cannot_prune(spec), torch.inference_mode():
        same = torch.allclose(rebuilt(pruned, spec)(x), pruned.eval()(x), atol=1e-4)
    if not same:
        raise CannotPrune(f"{spec.arch} cannot be rebuilt from its pruned weights")
    return pruned


def thin(groups: list[ChannelGroup], scores: dict[str, Tensor], left: dict[str, int]) -> None:
    """Remove the channels with the lowest `scores` from the network of `groups`, so that `left` channels per part stay."""
    for group in groups:
        if group.name in left:
            size = len(scores[group.name])
            gone = scores[group.name].argsort()[: size - left[group.name]].tolist()
            if gone:
                group.group.prune([part * size + i for part in range(group.parts) for i in gone])


@contextmanager
def as_cannot_prune(spec: AnySpec) -> Iterator[None]:
    """Raise every error inside as CannotPrune: a user's own network may contain what torch-pruning does not support."""
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


def prunable(network: nn.Module, spec: AnySpec, config: Cut, shape: tuple[int, int, int]) -> list[ChannelGroup]:
    """The channel groups that `cut` prunes with `config`, in the order of the network; `shape` is that of an image [C, H, W].

    Raises CannotPrune when torch-pruning cannot find them.
    """
    with as_cannot_prune(spec):
        return channel_groups(network, torch.zeros(1, *shape), kept_whole(network, spec, config))


def kept_whole(network: nn.Module, spec: AnySpec, config: Cut) -> list[nn.Module]:
    """Layers whose output channels stay: the classifier, Res2Net's equal splits, the residual stream.

    The residual stream is pruned where `residual` says so and no shortcut pads it.
    """
    kept = [classifier(network, spec)]
    for block in network.modules():
        if isinstance(block, SplitBlock):
            kept += block.convolutions()[:-1]
    if isinstance(network, ResNet) and (pads(network) or not config.residual):
        kept += residual_convolutions(network)
    return kept


def residual_convolutions(network: ResNet) -> list[nn.Module]:
    """The convolutions that write to the residual stream."""
    layers: list[nn.Module] = [network.conv1]
    for blocks in blocks_of(network):
        for block in blocks:
            layers.append(block.convolutions()[-1])
            if isinstance(block.downsample, nn.Sequential):
                layers.append(block.downsample[0])
    return layers
