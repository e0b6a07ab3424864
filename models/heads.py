"""Finds the classifier among the layers after a backbone. A file in which it is ambiguous is refused."""

import re
from pathlib import Path

import torch
from torch import Tensor

from core.text import some

# The usual names of the layer that computes the logits, anywhere in the file.
NAMES = (
    "fc", "head", "classifier", "linear", "last_linear", "logits", "heads", "lin", "cls", "cls_head", "classification_head",
    "output", "out", "final", "top", "predictor",
)  # fmt: skip
NAMED = re.compile(rf"(^|\.)({'|'.join(NAMES)})(\.|$)")
OTHER = re.compile(r"aux|proj|criterion|loss|discriminator|decoder|teacher|momentum", re.IGNORECASE)
BODY = re.compile(r"^(conv1|bn1|norm|layer\d+|stages|stem)\.")
LAST = re.compile(r"^layer(\d+)\.(\d+)\.conv(\d)\.weight$")
FACTORY = "pass MODEL=package.module:factory that builds this network"


def with_head(
    own: dict[str, Tensor], prefix: str, beside: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """`own` with the classifier as fc, and the names of the tensors that belong neither to the body nor to the classifier.

    `own` are the tensors with `prefix` under torchvision's names, `beside` others of the file. Raises ValueError if there is no
    classifier, or more than one layer that may be it.
    """
    body = {name: t for name, t in own.items() if BODY.match(name)}
    rest = {f"{prefix}{name}": t for name, t in own.items() if name not in body} | beside
    features = last_width(body)
    short = {n: relative(n, prefix) for n in rest}
    used = {n.removesuffix(".weight"): t for n, t in rest.items() if n.endswith(".weight") and not OTHER.search(short[n])}
    layers = {n: t for n, t in used.items() if is_linear(t)}
    named = [n for n in layers if NAMED.search(short[f"{n}.weight"])] or [
        n for n, t in layers.items() if t.shape[1] == features
    ]
    if not named:
        refuse_without({short[n]: t for n, t in rest.items()}, path)
    head = named[0]
    several = [n for n, t in used.items() if n in named or may_be_chained(t, layers[head], features)]
    if len(several) > 1:
        refuse_several({n: list(used[n].shape) for n in several}, path)
    if norms := [
        n for n, t in used.items() if t.ndim == 1 and f"{n}.bias" in rest and len(t) in (features, layers[head].shape[1])
    ]:
        raise ValueError(
            f"{path} has a norm beside the classifier {head} ({some(norms, 2)}), which the family does not have; {FACTORY}"
        )
    weight = layers[head].flatten(1)
    if weight.shape[0] == 1:
        raise ValueError(
            f"{path} has one logit ({head}.weight is {list(weight.shape)}: a sigmoid for two classes, or a regression); "
            "expected one logit per class: save it with two, weight = torch.cat([torch.zeros_like(w), w]) and the bias likewise"
        )
    if features and weight.shape[1] != features and weight.shape[1] % features == 0:
        raise ValueError(
            f"{path} has a classifier {head} that takes {weight.shape[1]} numbers, {weight.shape[1] // features} for each of "
            f"{features} channels; expected one, from a global average pooling: {FACTORY}"
        )
    bias = rest.get(f"{head}.bias", torch.zeros(weight.shape[0]))
    strangers = [n for n in own if n not in body and f"{prefix}{n}" not in (f"{head}.weight", f"{head}.bias")]
    # An unused head is left out. A layer that the family does not have is kept, and check_keys reports it as unexpected.
    kept = {n: own[n] for n in strangers if not OTHER.search(n) and f"{prefix}{n}".rpartition(".")[0] not in layers}
    out = [n for n in rest if n not in (f"{head}.weight", f"{head}.bias") and n.removeprefix(prefix) not in kept]
    return {**body, **kept, "fc.weight": weight, "fc.bias": bias}, out


def is_linear(weight: Tensor) -> bool:
    """[out, in], or the same as a 1x1 convolution."""
    return weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2:].numel() == 1)


def last_width(body: dict[str, Tensor]) -> int:
    """The channels of the last stage; 0 if there is no stage."""
    convolutions = [(tuple(map(int, m.groups())), t.shape[0]) for n, t in body.items() if (m := LAST.match(n)) and t.ndim == 4]
    return max(convolutions)[1] if convolutions else 0


def relative(name: str, prefix: str) -> str:
    """`name` without the words at its start that it shares with `prefix`: the names of wrappers."""
    words, others = name.split("."), prefix.split(".")
    differ = next((i for i, (word, other) in enumerate(zip(words, others, strict=False)) if word != other), 0)
    return ".".join(words[differ:])


def may_be_chained(other: Tensor, head: Tensor, features: int) -> bool:
    """Whether the layer of the weights `other` may come between the features and the head, or after it."""
    if other.ndim not in (2, 4):
        return False
    return other.shape[1] == head.shape[0] or (other.shape[1] == features and other.shape[0] == head.shape[1])


def refuse_several(shapes: dict[str, list[int]], path: Path) -> None:
    """ValueError with every layer that may be the classifier, or a part of it."""
    names, layers = ", ".join(shapes), ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if any(shapes[a][1] == shapes[b][0] for a in shapes for b in shapes if a != b):
        raise ValueError(
            f"{path} has a classifier of {len(shapes)} layers ({names}): {layers}; expected one linear layer, and the file "
            f"does not say what is between them: {FACTORY}, or save the product of their weights as one layer"
        )
    raise ValueError(f"{path} has {len(shapes)} classifiers ({names}): {layers}; expected one: save it without the unused ones")


def refuse_without(rest: dict[str, Tensor], path: Path) -> None:
    odd = [n for n in rest if NAMED.search(n) and n.endswith("weight")]
    if odd:
        raise ValueError(
            f"{path} has a classifier of {list(rest[odd[0]].shape)} ({odd[0]}); expected a linear layer, [classes, channels]"
        )
    raise ValueError(
        f"{path} has no classifier (none of {', '.join(NAMES[:6])}, …, and no linear layer after the network); expected a "
        "network that classifies: train one on top of it"
    )
