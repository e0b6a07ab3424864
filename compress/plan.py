"""How many channels of every group are pruned: one ratio for all, or a plan with ratios of its own for some groups."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from compress.groups import LEAST, ChannelGroup
from compress.importance import Importance
from core.config import Config

ROUND_TO = 16
Scope = Literal["local", "global", "isomorphic"]


class Cut(Config):
    """Which channels are removed.

    pruning_ratio   the share of the channels that is removed, except where a plan has another ratio
    importance      how channels are ranked; see `group_importance`
    scope           the channels that a channel is ranked among: those of its own group ("local"), those of all groups with the
                    same connections ("isomorphic"), or all ("global")
    steps           the number of steps, each with batch norm and gradients of its own; nothing is trained in between
    round_to        channel counts stay multiples of this: INT8 kernels fall back to floating point for other counts. None:
                    16, or 8, 4, 2, 1 where that is more than a third of the layer's channels
    residual        whether the channels of the residual stream are pruned too, or only those inside the blocks
    seed            of the importance "random"
    """

    pruning_ratio: float = Field(default=0.5, ge=0, lt=1)
    importance: Importance = "l2"
    scope: Scope = "local"
    steps: int = Field(default=1, ge=1)
    residual: bool = True
    round_to: int | None = Field(default=None, ge=1)
    seed: int = 0


def read_plan(folder: Path) -> dict[str, float]:
    """{name of a channel group: its pruning ratio}, from `folder`/plan.json."""
    return {str(name): float(ratio) for name, ratio in json.loads((folder / "plan.json").read_text())["ratios"].items()}


def planned(plan: Mapping[str, float], groups: list[ChannelGroup]) -> dict[str, float]:
    """`plan` by the names of `groups`; it may name a group by any layer that computes its channels.

    Raises ValueError for a name that is in no group, and for a ratio that removes all channels.
    """
    named = {layer: group.name for group in groups for layer in group.layers}
    if unknown := [name for name in plan if name not in named]:
        raise ValueError(f"the plan prunes {', '.join(unknown)}; expected channel groups: {', '.join(g.name for g in groups)}")
    if wrong := [f"{name} {ratio}" for name, ratio in plan.items() if not 0 <= ratio < 1]:
        raise ValueError(f"the plan has the pruning ratio of {', '.join(wrong)}; expected 0 <= ratio < 1")
    return {named[name]: ratio for name, ratio in plan.items()}


def kept_channels(
    groups: list[ChannelGroup],
    scores: dict[str, Tensor],
    whole: Mapping[str, int],
    config: Cut,
    plan: Mapping[str, float],
    share: float,
) -> dict[str, int]:
    """{group: the number of channels per part that stay} of every group with `scores`, after a `share` of the pruning.

    A scope keeps the best `1 - share * ratio` of its channels; `whole` {group: channels per part} counts them before the
    pruning. Each group of the `plan` is a scope of its own with its own ratio. "local" makes every group a scope, "global" has
    one scope, "isomorphic" one for every kind of group (Fang et al. 2024, arXiv:2407.04616). Widths are rounded down to
    multiples of `multiple`, but never below it.
    """
    scopes: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        if group.name in scores:
            alone = config.scope == "local" or group.name in plan
            key = group.name if alone else group.pattern if config.scope == "isomorphic" else ""
            scopes.setdefault(key, []).append(group)
    left = {}
    for rivals in scopes.values():
        sizes = [len(scores[group.name]) for group in rivals]
        ratio = share * plan.get(rivals[0].name, config.pruning_ratio)
        total = int(sum(whole[group.name] for group in rivals) * (1 - ratio) + 1e-6)
        owners = torch.arange(len(rivals)).repeat_interleave(torch.tensor(sizes))
        best = torch.cat([scores[group.name] for group in rivals]).topk(min(total, sum(sizes))).indices
        counts = torch.bincount(owners[best], minlength=len(rivals)).tolist()
        for group, size, count in zip(rivals, sizes, counts, strict=True):
            least = math.ceil(LEAST * whole[group.name]) if len(rivals) > 1 else 0
            unit = multiple(config.round_to, whole[group.name] * group.parts)
            left[group.name] = rounded(max(count, least), size, unit // math.gcd(unit, group.parts))
    return left


def multiple(round_to: int | None, width: int) -> int:
    """What the channels that stay of a group of `width` are a multiple of: a power of two, where `round_to` does not say."""
    if round_to is not None:
        return round_to
    third = max(1, width // 3)
    return min(ROUND_TO, 1 << (third.bit_length() - 1))


def rounded(count: int, size: int, unit: int) -> int:
    """`count` of `size` channels, rounded down to a multiple of `unit`, but not to 0; a full `size` is not rounded."""
    return size if count >= size else min(size, max(unit, count - count % unit))
