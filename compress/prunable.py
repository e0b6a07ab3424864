"""Which channel groups of a network can be pruned, and which have to stay whole."""

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compress.groups import ChannelGroup, channel_groups
from compress.plan import Cut
from core.text import first_line
from models.blocks import SplitBlock
from models.checkpoint import AnySpec, classifier, rebuilt
from models.custom import Custom
from models.resnet import ResNet, blocks_of, pads

Shape = tuple[int, int, int]
# They divide by the standard deviation of several channels: fewer channels change the others.
ACROSS_CHANNELS = (nn.GroupNorm, nn.LayerNorm)


class CannotPrune(Exception):
    """Why torch-pruning cannot prune this network."""


@contextmanager
def as_cannot_prune(spec: AnySpec) -> Iterator[None]:
    """Raise every error inside as CannotPrune: a user's own network may contain what torch-pruning does not support."""
    try:
        yield
    except Exception as error:
        raise cannot_prune(spec, described(error)) from error


def cannot_prune(spec: AnySpec, reason: str) -> CannotPrune:
    return CannotPrune(f"torch-pruning cannot take channels from {spec.arch} ({reason})")


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def prunable(network: nn.Module, spec: AnySpec, config: Cut, shape: Shape) -> list[ChannelGroup]:
    """The channel groups that can be pruned with `config`, in the order of the network; `shape` is that of an image [C, H, W].

    Raises CannotPrune when torch-pruning cannot find them, or when none can be pruned.
    """
    stay = unprunable(network, spec, config, shape)
    with as_cannot_prune(spec):
        return channel_groups(network, torch.zeros(1, *shape), kept_whole(network, spec, config, stay))


def kept_whole(network: nn.Module, spec: AnySpec, config: Cut, stay: Collection[str] = ()) -> list[nn.Module]:
    """Layers whose output channels stay: the classifier, Res2Net's equal splits, the residual stream, and the layers `stay`.

    The residual stream is pruned where `config.residual` says so and no shortcut pads it.
    """
    kept = [classifier(network, spec), *map(network.get_submodule, stay)]
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


def unprunable(network: nn.Module, spec: AnySpec, config: Cut, shape: Shape) -> list[str]:
    """The names of the channel groups of a user's own network that torch-pruning prunes wrongly, in the order of the network.

    torch-pruning does not see, for example, that a padded shortcut shifts the channels. Half of every group is pruned
    for trial: the groups together, and each of them alone only where that fails.
    Raises CannotPrune when torch-pruning cannot find the groups, and when none of them can be pruned.
    """
    if not isinstance(spec, Custom):
        return []
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with as_cannot_prune(spec):
        groups = channel_groups(network, x, kept_whole(network, spec, config))
    names = [group.name for group in groups if group.width > group.parts]
    if fault(network, spec, config, x, names) is None:
        return []
    faults = {name: found for name in names if (found := fault(network, spec, config, x, [name]))}
    if len(faults) == len(names):
        raise cannot_prune(spec, next(iter(faults.values())))
    return list(faults)


def fault(network: nn.Module, spec: AnySpec, config: Cut, x: Tensor, names: Collection[str]) -> str | None:
    """What goes wrong when the groups `names` lose half of their channels; None where the network then computes what it should.

    It should compute what it does when the layers that read these channels read zeros, also once it is saved and loaded.
    """
    trial = copy.deepcopy(network).eval()
    try:
        groups = [group for group in channel_groups(trial, x, kept_whole(trial, spec, config)) if group.name in names]
        gone = {group.name: every_second(group) for group in groups}
        hooks = [hook for group in groups for hook in reading_zeros(group, gone[group.name])]
        with torch.inference_mode():
            expected = trial(x)
        for hook in hooks:
            hook.remove()
        for group in groups:
            group.group.prune(gone[group.name])
        with torch.inference_mode():
            got = rebuilt(trial, spec)(x)
    except Exception as error:  # whatever torch-pruning or the user's code raises
        return described(error)
    exact = not any(isinstance(module, ACROSS_CHANNELS) for module in trial.modules())
    close = torch.allclose(got, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(expected.abs().max())))
    return "the pruned network computes something else" if exact and not close else None


def every_second(group: ChannelGroup) -> list[int]:
    """Every second channel of every part, but not all of them."""
    size = group.width // group.parts
    return [part * size + i for part in range(group.parts) for i in range(0, size - 1, 2)]


def reading_zeros(group: ChannelGroup, channels: list[int]) -> list[Any]:
    """Hooks that set the `channels` of `group` to zero where convolutions and linear layers read them."""

    def zeroed(dim: int, indices: list[int], module: nn.Module, args: tuple[Tensor]) -> Tensor:
        return args[0].index_fill(dim, torch.tensor(indices), 0.0)

    hooks = []
    for layer, indices in group.readers(channels):
        dim = -1 if isinstance(layer, nn.Linear) else 1
        hooks.append(layer.register_forward_pre_hook(partial(zeroed, dim, indices)))
    return hooks
