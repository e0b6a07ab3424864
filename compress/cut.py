"""A network -> a copy of it with fewer channels.

The ranking is ours: torch-pruning's leaves a layer whole when rounding would take all of it, and with it grouped convolutions
of few channels a group (ResNeXt).
"""

import copy
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from compress.groups import ChannelGroup, channel_groups, scores_of
from compress.importance import group_importance
from compress.plan import Cut, kept_channels, planned
from compress.prunable import CannotPrune, as_cannot_prune, kept_whole
from models.checkpoint import AnySpec, rebuilt


def cut(
    network: nn.Module,
    spec: AnySpec,
    config: Cut,
    shape: tuple[int, int, int],
    plan: Mapping[str, float] | None = None,
    refresh: Callable[[nn.Module], None] | None = None,
    stay: Collection[str] = (),
) -> nn.Module:
    """A copy of `network` without a share of its channels: the ratio of the `plan`, or else of `config`.

    `stay` names the groups that keep all their channels. `refresh` is called between steps with the network so far. "taylor"
    and "fisher" read the gradients of `network`.
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
            groups = channel_groups(pruned, x, kept_whole(pruned, spec, config, stay))
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


def copied(network: nn.Module) -> nn.Module:
    """A copy of `network` with copies of its gradients, when there are any."""
    copy_ = copy.deepcopy(network)
    for mine, theirs in zip(copy_.parameters(), network.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    return copy_
