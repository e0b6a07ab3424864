"""model -> the pruning ratio with which `prune` removes a share of its MACs (metrics only). Nothing is trained."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from compress.budget import OutOfReach
from compress.cut import cut
from compress.device import device_batches
from compress.fit import dataset_of
from compress.importance import accumulate_gradients
from compress.prunable import CannotPrune, unprunable
from compress.prune import Prune
from data.loader import Split
from models.checkpoint import AnySpec, load
from models.cost import cost

STEPS = 256  # pruning ratios that are tried are multiples of 1 / STEPS
POINT = 0.01  # a share may be missed by this: half of resnet20's inner channels, 49.5 % of its MACs, stand for 50 %


class Ratio(Prune):
    """`removed` is the share of the MACs that pruning should remove, to within a point."""

    removed: float = Field(gt=0, lt=1)


def find_ratio(config: Ratio, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Find the smallest pruning ratio that removes the share `config.removed` of the MACs of `model`, or more, by bisection.

    Raises OutOfReach when no ratio removes as much, or the network cannot be pruned.
    """
    network, spec = load(model)
    channels, height, width = dataset_of(images)["input_shape"]
    shape = (channels, height, width)
    read = device_batches(Split(images, "train"), 64, shuffle=True, limit=config.gradient_images)
    accumulate_gradients(config.importance, network, read)
    try:
        ratio, removed = ratio_without(network, spec, config, config.removed, shape)
    except CannotPrune as reason:
        raise OutOfReach(str(reason)) from reason
    return {"pruning_ratio": ratio, "removed": removed}


def ratio_without(
    network: nn.Module, spec: AnySpec, config: Prune, removed: float, shape: tuple[int, int, int]
) -> tuple[float, float]:
    """The smallest pruning ratio that removes the share `removed` of the MACs, to within a point, and what it removes.

    Raises CannotPrune, and OutOfReach when no ratio removes as much.
    """
    whole = cost(network, shape)["macs"]
    stay = unprunable(network, spec, config, shape)

    @cache
    def share(step: int) -> float:
        thinner = config.model_copy(update={"pruning_ratio": step / STEPS})
        return 1 - cost(cut(network, spec, thinner, shape, stay=stay), shape)["macs"] / whole

    high = smallest(share, removed - POINT)
    if high is None:
        most = share(STEPS - 1)
        raise OutOfReach(f"pruning removes at most {most:.1%} of the MACs of {spec.arch}, and {removed:.1%} were wanted")
    return high / STEPS, share(high)


def smallest(removed: Callable[[int], float], least: float) -> int | None:
    """The smallest step of the pruning ratio at which `removed(step)` is not below `least`; None where there is none."""
    low, high = 0, STEPS - 1
    if removed(high) < least:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if removed(middle) >= least else (middle, high)
    return high
