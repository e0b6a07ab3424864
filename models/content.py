"""The content of a checkpoint file -> its tensors by name, at any depth and in any wrapper."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.text import some
from models.read import RESAVE, read_content
from models.unpickle import Inert, Unlike

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LEARNT = ("weight", "bias", "running_mean", "running_var")
WEIGHT = re.compile(r"(^|\.)weight")
# Wrappers that change nothing: torch.compile, FSDP, activation checkpointing.
TRANSPARENT = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
AVERAGE = re.compile(r"(^|[._])(ema|avg|averaged?|swa|shadow)(?=[._]|\d|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Content:
    """`tensors` of networks by dotted name, `wrappers` the containers among the first words of names, `facts` every value."""

    tensors: dict[str, Any]
    wrappers: frozenset[str]
    facts: dict[str, Any]


def opened(path: Path) -> Content:
    """The content of the checkpoint file. Raises ValueError if it cannot be read, or contains no weights with names."""
    content = read_content(path)
    found = [(place, dotted(place, key), value) for place, key, value in leaves(content)]
    # Only a container with weights is a part of a network; a random state or a best score is not.
    networks = {place for place, name, value in found if isinstance(value, Tensor | Unlike) and WEIGHT.search(name)}
    tensors = {
        TRANSPARENT.sub("", name).lstrip("."): value
        for place, name, value in found
        if place in networks and isinstance(value, Tensor | Unlike) and name.split(".")[-1] != "n_averaged"
    }
    if not tensors:
        raise ValueError(f"{path} holds no state_dict ({inventory(content)}); expected tensors by name: {RESAVE}")
    wrappers = frozenset(str(k) for k, v in parts(content).items() if not isinstance(v, Tensor | Unlike))
    return Content(tensors, wrappers, {TRANSPARENT.sub("", name).lstrip("."): value for _, name, value in found})


def leaves(value: Any, place: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """(container, key, value) of everything in `value` that is no container itself; the state of optimizers is left out."""
    if is_optimizer(value):
        return
    for key, inside in parts(value).items():
        if isinstance(inside, np.ndarray):
            inside = tensor_of(inside)
        if parts(inside) and not is_numbers(inside):
            if id(inside) not in above:  # a module may know its parent
                yield from leaves(inside, dotted(place, key), (*above, id(inside)))
        else:
            yield place, str(key), inside


def parts(value: Any) -> dict[Any, Any]:
    """What a container holds, by key; of a pickled module what its state_dict has, and its numbers."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if not isinstance(value, Inert):
        return {}
    own, items = value.__dict__["attributes"], dict(enumerate(value.__dict__["entries"])) | value.__dict__["items"]
    passing = own.get("_non_persistent_buffers_set") or ()
    buffers = {k: v for k, v in (own.get("_buffers") or {}).items() if k not in passing} if "_modules" in own else {}
    plain = {k: v for k, v in own.items() if is_numbers(v) or isinstance(v, Tensor | float)} if "_modules" in own else own
    return {**plain, **items, **(own.get("_parameters") or {}), **buffers, **(own.get("_modules") or {})}


def is_optimizer(value: Any) -> bool:
    return {"state", "param_groups"} <= set(parts(value))


def has_optimizer(value: Any) -> bool:
    return is_optimizer(value) or (isinstance(value, dict) and any(has_optimizer(inside) for inside in value.values()))


def is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)


def tensor_of(array: np.ndarray) -> Any:
    """A NumPy array as a tensor; None for one of objects or text."""
    return torch.from_numpy(np.array(array, order="C")) if array.dtype.kind in "fiub" and array.dtype.isnative else None


def dotted(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def inventory(content: Any) -> str:
    """A short description of a file without weights."""
    if is_optimizer(content):
        return "it is the state of an optimizer"
    if isinstance(content, Inert):
        return f"it holds a pickled {content.named}"
    keys = [str(key) for key in parts(content)] if isinstance(content, dict) else []
    if has_optimizer(content):
        return f"only an optimizer's state and {some(keys)}"
    return f"its keys: {some(keys)}" if keys else f"it holds a {type(content).__name__}"


def checked(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """`state` in float32.

    Raises ValueError when its weights are not finite floating-point numbers.
    """
    odd = {n: kind for n, t in state.items() if n.endswith(LEARNT) and (kind := kind_of(t))}
    if odd:
        raise ValueError(
            f"{path} has weights of another type in {some(list(odd), 3)} ({', '.join(sorted(set(odd.values())))}); expected "
            "dense float16, bfloat16, float32 or float64: pass the checkpoint that it was converted from"
        )
    dense = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    broken = [name for name, t in dense.items() if t.dtype in FLOATS and not bool(torch.isfinite(t).all())]
    if broken:
        raise ValueError(f"{path} has NaN or infinite weights in {some(broken)}; expected finite numbers: save a healthy epoch")
    return {name: t.float() if t.dtype in FLOATS else t for name, t in dense.items()}


def kind_of(value: Tensor | Unlike) -> str:
    """The type of a tensor that is unusable as a weight; "" if it is usable."""
    if isinstance(value, Unlike):
        return value.kind
    usable = value.dtype in FLOATS and value.layout is torch.strided
    return "" if usable else f"{value.layout} {value.dtype}".replace("torch.", "")
