"""The mean and standard deviation in a checkpoint: from a layer before the network, or from arguments stored with it."""

import re
from typing import Any

from torch import Tensor

from models.content import is_numbers

# normalize.mean, 0.mean, pixel_mean, normalizer.new_mean (the robustness library), mean; running_mean is a batch norm's.
MEAN = re.compile(r"^(?:(.*)(?<!running)[._])?(mean|means|mu)$", re.IGNORECASE)
STDS = {"mean": ("std", "sd"), "means": ("stds", "sds", "std"), "mu": ("sigma", "std")}


def stated(facts: dict[str, Any]) -> dict[str, str]:
    """The names of every mean among `facts`, each with that of its deviation; buffers come before arguments."""
    pairs = {name: other for name in facts if (other := deviation(name, facts)) is not None}
    return dict(sorted(pairs.items(), key=lambda pair: not isinstance(facts[pair[0]], Tensor)))


def unit_scale(mean: list[float], std: list[float], name: str) -> dict[str, list[float]]:
    """{"mean", "std"} on the 0 … 1 scale; values above 1 are taken for the 0 … 255 scale.

    Raises ValueError when they fit neither.
    """
    scale = 255 if max(*mean, *std) > 1 else 1
    values = {"mean": [float(f"{v / scale:.7g}") for v in mean], "std": [float(f"{v / scale:.7g}") for v in std]}
    if min(values["mean"]) < 0 or min(values["std"]) <= 0 or max(values["mean"] + values["std"]) > 1:
        raise ValueError(
            f"the checkpoint normalises with {name} {mean} and the standard deviation {std}; expected values on the 0 … 1 or "
            "the 0 … 255 scale: save it without these two, and pass --mean and --std"
        )
    return values


def deviation(name: str, facts: dict[str, Any]) -> str | None:
    """The name of the standard deviation that belongs to the mean `name`; None when it is none."""
    match = MEAN.match(name)
    if match is None or len(numbers(facts[name])) not in (1, 3):
        return None
    words = STDS[match[2].lower()]
    found = [name[: match.start(2)] + (word.upper() if match[2].isupper() else word) for word in words]
    return next((f for f in found if len(numbers(facts.get(f))) in (1, 3)), None)


def numbers(value: Any) -> list[float]:
    """`value` as a list of numbers; empty when it is something else."""
    if isinstance(value, Tensor):
        return [float(v) for v in value.flatten()] if value.numel() in (1, 3) else []
    if is_numbers(value):
        return [float(v) for v in value]
    return []
