"""A network as groups of channels: what its layers cost at any widths, and how much importance narrower ones lose.

The groups are torch-pruning's (DepGraph, Fang et al. 2023, arXiv:2301.12900). Nothing is pruned here.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from compress.groups import LEAST, scores_of
from compress.importance import group_importance
from compress.plan import Cut, multiple
from compress.prunable import prunable
from models.checkpoint import AnySpec


@dataclass(frozen=True)
class Group:
    """Channels that have one common width: those inside a block, or the residual stream of a stage.

    name      the convolution that identifies the group
    full      the number of channels; the width is `full`, or a multiple of `unit` from `smallest` on
    writers   the number of layers that write them
    pixels    height x width of the channels
    kept      float64 [full + 1]: the share of the group's importance that its n most important channels hold
    """

    name: str
    full: int
    smallest: int
    unit: int
    writers: int
    pixels: int
    kept: np.ndarray


@dataclass(frozen=True)
class Graph:
    """Layers whose channels depend on the widths w [groups] of `groups`: inputs @ [w, 1] and outputs @ [w, 1].

    inputs, outputs  float64 [layers, groups + 1]
    taps             weights for one input and one output channel [layers]
    pixels           how often each weight is used for one image [layers]
    vectors          biases and batch norm: parameters per channel [groups + 1]
    """

    groups: tuple[Group, ...]
    inputs: np.ndarray
    outputs: np.ndarray
    taps: np.ndarray
    pixels: np.ndarray
    vectors: np.ndarray

    @property
    def full(self) -> np.ndarray:
        return np.array([group.full for group in self.groups])

    @property
    def smallest(self) -> np.ndarray:
        return np.array([group.smallest for group in self.groups])

    @property
    def units(self) -> np.ndarray:
        return np.array([group.unit for group in self.groups])

    @property
    def writers(self) -> np.ndarray:
        return np.array([group.writers for group in self.groups])

    def narrower(self, widths: np.ndarray) -> np.ndarray:
        """The next narrower width of every group, itself where there is none: int [..., groups]."""
        return np.asarray(np.maximum((widths - 1) // self.units * self.units, self.smallest))

    def scaled(self, share: float) -> np.ndarray:
        """The widths [groups] with `share` of all channels, rounded up."""
        rounded = np.ceil(self.full * share / self.units).astype(int) * self.units
        return np.asarray(np.clip(rounded, self.smallest, self.full))

    def loss(self, widths: np.ndarray) -> np.ndarray:
        """-log of the share of importance kept, per group and summed over the layers that write it: [..., groups].

        Layers follow one another, so shares multiply, and removing the last channels of a layer costs more than the first ones.
        """
        shares = [group.kept[widths[..., i]] for i, group in enumerate(self.groups)]
        return np.asarray(-self.writers * np.log(np.stack(shares, axis=-1)))

    def params(self, widths: np.ndarray) -> np.ndarray:
        """Parameters at `widths` [..., groups]."""
        products, _ = self.products(widths)
        return np.asarray((products * self.taps).sum(-1) + with_one(widths) @ self.vectors)

    def macs(self, widths: np.ndarray) -> np.ndarray:
        """Multiply-accumulates for one image at `widths` [..., groups]."""
        products, _ = self.products(widths)
        return np.asarray((products * self.taps * self.pixels).sum(-1))

    def storage(self, widths: np.ndarray) -> np.ndarray:
        """The features that predict the size of an engine's file [..., 2]: 1 and the parameters."""
        return np.stack([np.ones(widths.shape[:-1]), self.params(widths)], axis=-1)

    def work(self, widths: np.ndarray) -> np.ndarray:
        """The features that predict latency [..., 1 + 2 resolutions]: 1, the MACs and the values written at each resolution."""
        products, outputs = self.products(widths)
        here = [self.pixels == pixels for pixels in sorted(set(self.pixels), reverse=True)]
        macs = [(products * self.taps * self.pixels)[..., at].sum(-1) for at in here]
        values = [(outputs * self.pixels)[..., at].sum(-1) for at in here]
        return np.stack([np.ones(widths.shape[:-1]), *macs, *values], axis=-1)

    def products(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Input x output channels and output channels of every layer: [..., layers] each."""
        extended = with_one(widths)
        outputs = extended @ self.outputs.T
        return (extended @ self.inputs.T) * outputs, outputs

    def ratios(self, widths: np.ndarray) -> dict[str, float]:
        """{group: its pruning ratio}."""
        return {group.name: 1 - width / group.full for group, width in zip(self.groups, widths.tolist(), strict=True)}


def with_one(widths: np.ndarray) -> np.ndarray:
    return np.concatenate([widths, np.ones((*widths.shape[:-1], 1))], axis=-1)


def graph_of(network: nn.Module, spec: AnySpec, config: Cut, shape: tuple[int, int, int]) -> Graph:
    """The groups of `network` that `cut` prunes with `config`, ranked by its criterion.

    `network` has gradients if the criterion needs them.
    Raises CannotPrune when torch-pruning cannot find the groups.
    """
    pixels = pixels_of(network, torch.zeros(1, *shape))
    found = prunable(network, spec, config, shape)
    scores = scores_of(found, group_importance(config.importance, config.seed))
    is_written = tp.DependencyGraph().is_out_channel_pruning_fn  # or read
    groups: list[Group] = []
    read: list[dict[nn.Module, float]] = []  # per group, {layer: its inputs for one channel of the group}
    written: list[dict[nn.Module, float]] = []
    for channels in found:
        if channels.name not in scores:  # `cut` does not prune it
            continue
        ends: dict[bool, dict[nn.Module, set[int]]] = {True: defaultdict(set), False: defaultdict(set)}
        for member, indices in channels.group:
            if isinstance(member.target.module, nn.Module):
                ends[is_written(member.handler)][member.target.module] |= set(indices)
        unit = math.lcm(multiple(config.round_to, channels.width), channels.parts)
        groups.append(
            Group(
                name=channels.name,
                full=channels.width,
                smallest=min(channels.width, math.ceil(LEAST * channels.width / unit) * unit),
                unit=unit,
                writers=len(channels.layers),
                pixels=pixels[network.get_submodule(channels.name)],
                kept=shares_kept(scores[channels.name].repeat_interleave(channels.parts)),
            )
        )
        for parts, end in ((written, True), (read, False)):
            parts.append({module: len(indices) / channels.width for module, indices in ends[end].items()})
    return assembled(network, groups, read, written, pixels)


def shares_kept(scores: Tensor) -> np.ndarray:
    """[channels + 1]: the share of the n largest in all `scores` [channels]; where all are zero, of equal scores."""
    positive = scores.detach().double().clamp(min=0).numpy()
    ranked = np.sort(positive if positive.sum() > 0 else np.ones(len(positive)))[::-1]
    return np.concatenate([[0.0], np.cumsum(ranked) / ranked.sum()])


def pixels_of(network: nn.Module, x: Tensor) -> dict[nn.Module, int]:
    """Height x width of the output of every convolution and linear layer of `network` for the image `x`, in order."""
    pixels: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        pixels[module] = int(np.prod(output.shape[2:]))

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    network.eval()
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return pixels


def assembled(
    network: nn.Module,
    groups: list[Group],
    read: list[dict[nn.Module, float]],
    written: list[dict[nn.Module, float]],
    pixels: dict[nn.Module, int],
) -> Graph:
    """Channels that belong to no group are the constant last column."""
    full = np.array([group.full for group in groups])

    def row(module: nn.Module, parts: list[dict[nn.Module, float]], channels: int) -> np.ndarray:
        shares = np.array([part.get(module, 0.0) for part in parts])
        return np.append(shares, channels - shares @ full)

    inputs, outputs, taps = [], [], []
    vectors = np.zeros(len(groups) + 1)
    for module in pixels:
        weight = module.get_parameter("weight")
        outputs.append(row(module, written, weight.shape[0]))
        grouped = int(getattr(module, "groups", 1))
        depthwise = 1 < grouped == weight.shape[0]  # narrowing it removes groups, not inputs of a group
        inputs.append(np.append(0.0 * full, 1.0) if depthwise else row(module, read, weight.shape[1] * grouped))
        taps.append(np.prod(weight.shape[2:]) / (1 if depthwise else grouped))
    for module in network.modules():
        own = [
            p for name, p in module.named_parameters(recurse=False) if p.ndim == 1 and (module not in pixels or name == "bias")
        ]
        for parameter in own:
            vectors += row(module, written, len(parameter))
    shapes = np.array(list(pixels.values()), dtype=float)
    return Graph(tuple(groups), np.array(inputs), np.array(outputs), np.array(taps, dtype=float), shapes, vectors)
