"""The tensors of a file -> the one ResNet among them, under torchvision's names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.text import joined, some
from models.content import AVERAGE, checked
from models.heads import with_head

STEMS = ("conv1.weight", "stem.conv.weight", "conv1.0.weight", "embedder.embedder.convolution.weight")
FIRST = ("layer1.", "stages.0.", "encoder.stages.0.")  # the first stage beside these stems
STAGE = re.compile(r"(^|\.)(layer\d+|stages|blocks)\.")
NUMBERED = re.compile(r"^((?:.*\.)?)(\d+)\.0\.conv1\.weight$")  # a stage of nn.Sequential(*resnet.children())
BIASED = re.compile(r"^(|layer\d+\.\d+\.)(?:conv(\d)|downsample\.0)\.bias$")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "state")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
Renaming = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
HF = r"^encoder\.stages\.(\d+)\.layers\.(\d+)\."
RENAMED: tuple[Renaming, ...] = (
    # timm's pre-activation networks
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.norm(\d)\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.bn{m[3]}."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.0."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}."),
    (re.compile(r"^stem\.conv\."), lambda m: "conv1."),
    # Hugging Face's ResNetForImageClassification
    (re.compile(r"^embedder\.embedder\.convolution\."), lambda m: "conv1."),
    (re.compile(r"^embedder\.embedder\.normalization\."), lambda m: "bn1."),
    (re.compile(HF + r"layer\.(\d+)\.convolution\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.conv{int(m[3]) + 1}."),
    (re.compile(HF + r"layer\.(\d+)\.normalization\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.bn{int(m[3]) + 1}."),
    (re.compile(HF + r"shortcut\.convolution\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.0."),
    (re.compile(HF + r"shortcut\.normalization\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.1."),
    # scripts for CIFAR
    (re.compile(r"^(layer\d\.\d+)\.shortcut\."), lambda m: f"{m[1]}.downsample."),
)


@dataclass(frozen=True)
class Chosen:
    """`own`: the tensors behind `prefix`, without it. `beside`: other tensors that belong to no network, under their names."""

    prefix: str
    own: dict[str, Tensor]
    beside: dict[str, Tensor]
    notes: list[str]


def resnet_state(
    state: dict[str, Tensor], path: Path, wrappers: frozenset[str] = frozenset()
) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under torchvision's names in float32, and notes about the chosen network and the unused tensors.

    Raises ValueError if there is no ResNet, more than one, no single linear classifier, or weights that are no numbers.
    """
    prefixes = networks(state)
    if not prefixes:
        raise ValueError(
            f"{path} holds no ResNet (its tensors: {some(list(state))}); expected torchvision's, timm's or Hugging Face's "
            "names, or MODEL=package.module:factory for a network of your own"
        )
    chosen = choose(prefixes, state, wrappers, path)
    own = renumbered(checked(chosen.own, path))
    for pattern, replacement in RENAMED:
        own = {pattern.sub(replacement, name): t for name, t in own.items()}
    own = without_biases(own)
    whole, rest = with_head(own, chosen.prefix, checked(chosen.beside, path), path)
    return whole, chosen.notes + left_out(rest)


def networks(state: dict[str, Tensor]) -> list[str]:
    """The prefixes (module., model.backbone., …) behind which a ResNet lies: those of its stem that have a first stage, too."""
    stems = {
        name.removesuffix(stem)
        for name in state
        for stem in STEMS
        if name.endswith(stem) and name.removesuffix(stem)[-1:] in ("", ".") and not STAGE.search(name)
    }
    found = {p for p in stems if any(name.startswith(tuple(f"{p}{first}" for first in FIRST)) for name in state)}
    for prefix, numbers in numbered(state).items():
        if len(numbers) >= 3 and not any(name.startswith(f"{prefix}conv1.") for name in state):
            found.add(prefix)
    return sorted(found)


def numbered(state: dict[str, Tensor]) -> dict[str, list[int]]:
    """The numbers of the stages behind each prefix of an nn.Sequential."""
    stages: dict[str, set[int]] = {}
    for name in state:
        if match := NUMBERED.match(name):
            stages.setdefault(match[1], set()).add(int(match[2]))
    return {prefix: sorted(numbers) for prefix, numbers in stages.items()}


def renumbered(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the children of a ResNet that is held as nn.Sequential: 0 is conv1, 1 is bn1, 4 is layer1 …"""
    stages = numbered(own).get("", [])
    if not stages:
        return own
    stem = [n for n in sorted({int(k.split(".")[0]) for k in own if k.split(".")[0].isdigit()}) if n < stages[0]]
    names = dict(zip(map(str, stem), ("conv1", "bn1"), strict=False))
    names |= {str(number): f"layer{i}" for i, number in enumerate(stages, start=1)}
    return {".".join([names.get(first, first), *rest]): t for (first, *rest), t in ((k.split("."), t) for k, t in own.items())}


def without_biases(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the biases of convolutions (Keras has them) into the running means of the batch norms that follow; equal logits."""
    plain = dict(own)
    for name, bias in own.items():
        if (match := BIASED.match(name)) and (mean := own.get(following(match))) is not None and mean.shape == bias.shape:
            plain[following(match)] = mean - plain.pop(name)
    return plain


def following(match: re.Match[str]) -> str:
    """The running mean of the batch norm behind a convolution of a plain block."""
    return f"{match[1]}bn{match[2]}.running_mean" if match[2] else f"{match[1]}downsample.1.running_mean"


def choose(prefixes: list[str], state: dict[str, Tensor], wrappers: frozenset[str], path: Path) -> Chosen:
    """One of several networks. Of copies, the first. Averaged weights have priority, then the usual names of the model.

    An average without buffers gets those of the other network. Raises ValueError if the choice is ambiguous.
    """

    def behind(prefix: str) -> dict[str, Tensor]:
        inner = tuple(p for p in prefixes if p.startswith(prefix) and p != prefix)
        own = {name: t for name, t in state.items() if name.startswith(prefix) and not name.startswith(inner)}
        return {name.removeprefix(prefix): t for name, t in own.items()}

    def rank(prefix: str) -> tuple[bool, int]:
        first = prefix.split(".")[0]
        return not AVERAGE.search(prefix), WRAPPERS.index(first) if first in wrappers and first in WRAPPERS else len(WRAPPERS)

    own = {prefix: behind(prefix) for prefix in sorted(prefixes, key=lambda p: (rank(p), len(p), p))}
    distinct = [p for i, p in enumerate(own) if not any(same(own[p], own[q]) for q in list(own)[:i])]
    first = distinct[0]
    if sum(rank(p) == rank(first) for p in distinct) > 1:
        raise ValueError(
            f"{path} holds {len(distinct)} networks ({', '.join(sorted(distinct))}); expected one: save the one to press alone"
        )
    notes = []
    if len(prefixes) > 1:
        others = [p for p in prefixes if p != first]
        shown = [p.rstrip(".") or "the top of the file" for p in (first, *others)]
        notes.append(f"The checkpoint has {joined(shown)}: {shown[0]} was used.")
        given = {n: t for p in others for n, t in own[p].items() if n.endswith(BUFFERS) and n not in own[first]}
        if given and not any(n.endswith(BUFFERS[:2]) for n in own[first]):
            own[first] |= given
            notes.append(f"{shown[0]} has no running statistics: those of {joined(shown[1:])} were taken.")
    beside = {n: t for n, t in state.items() if not n.startswith(first) and near(n, first, prefixes)}
    return Chosen(first, own[first], beside, notes)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether one is a copy of the other, classifier included; two classifiers may share a backbone."""
    dense = all(isinstance(t, Tensor) for t in (*a.values(), *b.values()))
    return dense and a.keys() == b.keys() and any(t.ndim == 2 for t in a.values()) and all(torch.equal(a[n], b[n]) for n in a)


def near(name: str, first: str, prefixes: list[str]) -> bool:
    """Whether `name` lies in the part of the file that holds the network `first` and no other."""
    words = first.split(".")
    for k in range(len(words)):
        place = "".join(f"{w}." for w in words[:k])
        if not any(p.startswith(place) for p in prefixes if p != first):
            return name.startswith(place)
    return False


def left_out(names: list[str]) -> list[str]:
    """A note about tensors that belong to something else, for example a loss."""
    if not names:
        return []
    are = "tensor of the checkpoint does" if len(names) == 1 else "tensors of the checkpoint do"
    return [f"{len(names)} {are} not belong to the network and {'was' if len(names) == 1 else 'were'} not used: {some(names)}."]


def best_prefix(expected: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """The prefixes of `state` behind which most of the `expected` keys are."""
    counts: dict[str, int] = {}
    for name in state:
        words = name.split(".")
        for k in range(len(words)):
            if ".".join(words[k:]) in expected:
                prefix = "".join(f"{w}." for w in words[:k])
                counts[prefix] = counts.get(prefix, 0) + 1
    return sorted(p for p, count in counts.items() if count == max(counts.values())) or [""]
