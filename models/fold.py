"""Parametrized weights of training (pruning masks, weight norm, spectral norm) -> plain weights."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.text import some

# torch.nn.utils.prune, .weight_norm and .spectral_norm rename "weight"; torch.nn.utils.parametrize moves it.
OLD = re.compile(r"^((?:.*\.)?)(weight|bias)_(orig|mask|g|v|u)$")
NEW = re.compile(r"^(.*?)parametrizations\.(\w+)\.(original\d?|\d+\..+)$")


def folded(state: dict[str, Any]) -> dict[str, Any]:
    """`state` with one plain tensor for every set of them, as the network computes it in evaluation mode.

    Sets whose names do not say what is computed stay as they are.
    """
    plain: dict[str, Any] = {}
    sets: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        if found := OLD.match(name) or NEW.match(name):
            sets.setdefault(f"{found[1]}{found[2]}", {})[found[3]] = (name, tensor)
        else:
            plain[name] = tensor
    for name, given in sets.items():
        tensors = {part: tensor for part, (_, tensor) in given.items()}
        whole = one(tensors) if all(isinstance(t, Tensor) for t in tensors.values()) else None
        plain |= dict(given.values()) if whole is None else {name: whole}
    return plain


def is_part(name: str) -> bool:
    return bool(OLD.match(name) or NEW.match(name))


def refuse_parts(state: dict[str, Any], path: Path) -> None:
    """ValueError when `state` still has sets."""
    if parts := [name for name in state if is_part(name)]:
        raise ValueError(
            f"{path} has weights in parts ({some(parts, 3)}), and the file does not say which parametrization puts them "
            "together: call torch.nn.utils.parametrize.remove_parametrizations on each module and save it again"
        )


def one(given: dict[str, Tensor]) -> Tensor | None:
    """The tensor that `given` stands for; None when that is not known."""
    match given:
        case {"orig": weight, "mask": mask, **rest} if not rest and weight.shape == mask.shape:
            return weight.float() * mask
        case {"orig": weight, "u": u, "v": v, **rest} if not rest:
            return spectral(weight, u, v)
        case {"original": weight, "0._u": u, "0._v": v, **rest} if not rest:
            return spectral(weight, u, v)
        case {"g": length, "v": direction, **rest} if not rest:
            return scaled(length, direction)
        case {"original0": length, "original1": direction, **rest} if not rest:
            return scaled(length, direction)
    return None


def scaled(length: Tensor, direction: Tensor) -> Tensor | None:
    """Weight normalisation, g * v / |v|; Salimans & Kingma 2016 (arXiv:1602.07868). `length` is 1 where the norm is taken."""
    kept = [i for i, size in enumerate(length.shape) if size > 1]
    if length.ndim not in (0, direction.ndim) or any(length.shape[i] != direction.shape[i] for i in kept):
        return None
    dims = [i for i in range(direction.ndim) if i not in kept]
    direction = direction.float()
    norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
    return length.float() * direction / norm


def spectral(weight: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    """Spectral normalisation, W / (u · W v); Miyato et al. 2018 (arXiv:1802.05957). `u` goes with the first axis."""
    matrix = weight.float().flatten(1)
    if (u.numel(), v.numel()) != tuple(matrix.shape):
        return None
    return weight.float() / torch.dot(u.float(), matrix @ v.float())
