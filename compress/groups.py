"""Channels that can only be removed together (dependency groups), and how important they are.

The groups are torch-pruning's (DepGraph, Fang et al. 2023, arXiv:2301.12900).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn

LEAST = 0.1  # the share of every group that stays, however low it ranks


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """`width` channels that layers share. `name`: the first layer, in the order of the network, that computes them.

    parts     number of equal parts into which grouped convolutions split the channels; all lose the same number
    pattern   the kinds of layers in the group, in order: equal for isomorphic groups
    layers    names of all convolutions and linear layers that compute these channels
    """

    name: str
    width: int
    parts: int
    pattern: str
    layers: list[str]
    group: Any

    def readers(self, channels: list[int]) -> list[tuple[nn.Module, list[int]]]:
        """The convolutions and linear layers that read `channels` of the group, each with the numbers of its inputs."""
        start, graph = self.group[0].dep, self.group._DG
        return [
            (item.dep.target.module, item.idxs)
            for item in graph.get_pruning_group(start.target.module, start.handler, channels)
            if isinstance(item.dep.target.module, (nn.modules.conv._ConvNd, nn.Linear))
            and not graph.is_out_channel_pruning_fn(item.dep.handler)
        ]


def channel_groups(network: nn.Module, x: Tensor, kept_whole: list[nn.Module]) -> list[ChannelGroup]:
    """The groups of `network` that contain none of `kept_whole`, in the order of the network; `x` is an input for it."""
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=x)
    order = {module: i for i, module in enumerate(network.modules())}
    names = {module: name for name, module in network.named_modules()}
    found = []
    for group in graph.get_all_groups(ignored_layers=kept_whole):
        kinds = [
            (item.dep.source.module, item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler))
            for item in group
        ]
        makers = [target for _, target, made in kinds if made and isinstance(target, (nn.modules.conv._ConvNd, nn.Linear))]
        makers = sorted(dict.fromkeys(makers), key=order.__getitem__)
        first = makers[0]
        found.append(
            ChannelGroup(
                name=names[first],
                width=graph.get_out_channels(group[0].dep.target.module),
                parts=max((parts_of(target) for _, target, _ in kinds), default=1),
                pattern=" ".join(f"{type(source).__name__}-{type(target).__name__}-{made}" for source, target, made in kinds),
                layers=[names[m] for m in makers],
                group=group,
            )
        )
    return sorted(found, key=lambda group: order[network.get_submodule(group.name)])


def parts_of(layer: object) -> int:
    """The number of parts of `layer` that must keep equal numbers of channels; 1 for depthwise convolutions."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups
    return layer.groups if isinstance(layer, nn.Conv2d) and layer.groups != layer.out_channels else 1


def scores_of(groups: list[ChannelGroup], importance: Callable[[Any], Tensor | None]) -> dict[str, Tensor]:
    """{group: the scores [width / parts] of its channels, the mean over the parts}; without groups that have no scores.

    A group where all weights are zero has equal scores, not 0 / 0.
    """
    found = {group: importance(group.group) for group in groups}
    return {g.name: s.view(g.parts, -1).mean(0).cpu().nan_to_num(0) for g, s in found.items() if s is not None}
