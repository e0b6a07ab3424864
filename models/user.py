"""A user's checkpoint file -> the spec of its network, its state_dict in float32, and its normalisation of images."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models import custom
from models.content import Content, checked, opened
from models.custom import Custom, is_custom
from models.find import best_prefix, choose, left_out, resnet_state
from models.fold import folded, is_part, refuse_parts
from models.keys import check_keys, spec_from
from models.normalisation import numbers, stated, unit_scale
from models.resnet import ResNet, Spec

EPS = 1e-5  # of the batch norms that the family has


class User(NamedTuple):
    """The content of a checkpoint file; `prepared` is the normalisation in the file: mean and std, or empty."""

    spec: Spec | Custom
    state: dict[str, Tensor]
    prepared: dict[str, list[float]]
    notes: list[str]


def read_user(path: Path, arch: str, bn_eps: float = EPS) -> User:
    """The network in the checkpoint file `path`; `bn_eps` is the epsilon of its batch norms if the file does not have it.

    Raises ValueError if the file cannot be read, contains another architecture than `arch`, or does not fit it.
    """
    content = opened(path)
    pairs = stated(content.facts)
    if is_custom(arch):
        if bn_eps != EPS:
            raise ValueError(f"load.bn_eps is {bn_eps}, but MODEL {arch} is your own network: set epsilon in its factory")
        return read_custom(path, arch, content, pairs)
    layers = {*pairs, *pairs.values()}
    state = folded(content.tensors)
    refuse_parts(state, path)
    state, notes = with_eps({n: t for n, t in state.items() if n not in layers}, content.facts, bn_eps)
    state, more = resnet_state(state, path, content.wrappers)
    spec, about = spec_from(state, arch, path)
    with torch.device("meta"):
        expected = ResNet(spec).state_dict()
    check_keys(expected, state, path)
    prepared, said = in_front(pairs, content.facts)
    return User(spec, state, prepared, more + about + notes + said)


def read_custom(path: Path, arch: str, content: Content, pairs: dict[str, str]) -> User:
    """The same for a user's own network; its classes and input channels are those of the last and the first weight."""
    state = folded(content.tensors)
    weights = [t for name, t in state.items() if name.endswith("weight") and isinstance(t, Tensor) and t.ndim in (2, 4)]
    images = [t for t in weights if t.ndim == 4]
    requests = {"num_classes": weights[-1].shape[0]} if weights else {}
    requests |= {"in_channels": images[0].shape[1]} if images else {}
    model = custom.create(arch, **requests)
    expected = model.state_dict()
    if any(is_part(name) for name in expected):  # the factory parametrizes its weights itself
        state = content.tensors
    else:
        refuse_parts(state, path)
    chosen = choose(best_prefix(expected, state), state, content.wrappers, path)
    layers = {n.removeprefix(chosen.prefix) for pair in pairs.items() for n in pair}
    own = checked({n: t for n, t in chosen.own.items() if n in expected or n not in layers}, path)
    custom.fit_channels(model, own)  # pruned, or with another head than the factory's
    check_keys(model.state_dict(), own, path)
    model.load_state_dict(own)
    spec = custom.describe(arch, model)
    if spec.num_classes == 1:
        raise ValueError(
            f"{path} has one logit (a sigmoid for two classes, or a regression); expected one logit per class: let MODEL "
            f"{arch} return two, torch.cat([torch.zeros_like(x), x], 1)"
        )
    prepared, said = (inside if layers & set(expected) else in_front)(pairs, content.facts)
    rest = [n for n in chosen.beside if n not in {*pairs, *pairs.values()}]
    return User(spec, own, prepared, chosen.notes + left_out(rest) + said)


def with_eps(state: dict[str, Any], facts: dict[str, Any], bn_eps: float) -> tuple[dict[str, Any], list[str]]:
    """`state` for batch norms with our epsilon: the difference of the two epsilons is added to the running variances.

    The logits stay the same. A pickled module contains its epsilon; a state_dict does not.
    """
    more = {
        name: difference
        for name, t in state.items()
        if name.endswith("running_var") and isinstance(t, Tensor)
        and (difference := facts.get(f"{name.removesuffix('running_var')}eps", bn_eps) - EPS)
    }  # fmt: skip
    if not more:
        return state, []
    theirs = ", ".join(sorted({f"{difference + EPS:.4g}" for difference in more.values()}))
    changed = {name: t.float() + more[name] if name in more else t for name, t in state.items()}
    return changed, [
        f"The batch norms have epsilon {theirs}; the difference to ours, {EPS}, was added to their running variances."
    ]


def in_front(pairs: dict[str, str], facts: dict[str, Any]) -> tuple[dict[str, list[float]], list[str]]:
    """The normalisation that was a layer before the network; it becomes part of the preprocessing."""
    for name, other in pairs.items():
        values = unit_scale(numbers(facts[name]), numbers(facts[other]), name)
        shown = " ".join(f"--{key} {','.join(f'{v:.4g}' for v in values[key])}" for key in ("mean", "std"))
        return values, [
            f"The checkpoint contains its normalisation ({name}, {other}): {shown} is used, unless flags set other values."
        ]
    return {}, []


def inside(pairs: dict[str, str], facts: dict[str, Any]) -> tuple[dict[str, list[float]], list[str]]:
    """The scale of the pixels for a network that normalises them itself."""
    name, other = next(iter(pairs.items()))
    scale = 255 if max(numbers(facts[name]) + numbers(facts[other])) > 1 else 1
    note = f"The network normalises its images itself ({name}, {other}): its pixels are 0 … {scale}, unless flags change it."
    return {"mean": [0.0], "std": [1 / scale]}, [note]
