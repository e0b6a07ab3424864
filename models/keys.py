"""A state_dict -> torchvision's names, and the spec of the network that it describes."""

import re
from pathlib import Path

import torch
from torch import Tensor

from core.text import joined, some
from models.resnet import FAMILY, Kind, Member, Spec, family_spec

HEADS = ("fc", "head.fc", "head", "classifier", "last_linear", "linear")
WHOLE = "expected the whole state_dict of one network"
CONVOLUTION = re.compile(r"(^|\.)(conv\d|convs\.\d+|downsample\.0)\.weight$")
STAGE = re.compile(r"(^|\.)(layer\d+|stages|blocks)\.")
RENAMED = (  # timm's names of pre-activation networks, and others
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.norm(\d)\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.bn{m[3]}."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.0."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\."), lambda m: f"layer{int(m[1]) + 1}.{m[2]}."),
    (re.compile(r"^stem\.conv\."), lambda m: "conv1."),
    (re.compile(r"^(layer\d\.\d+)\.shortcut\."), lambda m: f"{m[1]}.downsample."),  # as CIFAR's training scripts call it
)


def resnet_state(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under torchvision's names, and notes about what was left out.

    Prefixes (module., _orig_mod., model., backbone., whatever a Lightning module calls its network) are found by looking
    where the stem is. Raises ValueError when there is no ResNet, more than one, or no single linear classifier.
    """
    anchors = ("conv1.weight", "stem.conv.weight", "conv1.0.weight")
    prefixes = sorted(
        {
            name.removesuffix(anchor)
            for name in state
            for anchor in anchors
            if name.endswith(anchor) and name.removesuffix(anchor)[-1:] in ("", ".") and not STAGE.search(name)
        }
    )
    if not prefixes:
        raise ValueError(
            f"{path} holds no ResNet (its tensors: {some(list(state))}); expected torchvision's or timm's names, or "
            "MODEL=package.module:factory for a network of your own"
        )
    if len(prefixes) > 1:
        raise ValueError(
            f"{path} holds {len(prefixes)} networks ({', '.join(prefixes)}); expected one: save the one to press alone"
        )
    prefix = prefixes[0]
    inside = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    outside = {name: t for name, t in state.items() if not name.startswith(prefix)}
    for pattern, replacement in RENAMED:
        inside = {pattern.sub(replacement, name): t for name, t in inside.items()}
    inside, outside = with_head(inside, outside, path)
    return inside, left_out(list(outside))


def left_out(names: list[str]) -> list[str]:
    """A note about tensors of the file that belong to something else, a loss say."""
    if not names:
        return []
    are = "tensor is not the network's and was" if len(names) == 1 else "tensors are not the network's and were"
    return [f"{len(names)} {are} left out of the checkpoint: {some(names)}."]


def with_head(inside: dict[str, Tensor], outside: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The classifier under the name fc, wherever it is: fc.1 behind a dropout, head.fc beside a backbone, …"""
    for names in (inside, outside):
        layers = [
            n.removesuffix(".weight") for n in names if n.startswith(tuple(f"{h}." for h in HEADS)) and n.endswith(".weight")
        ]
        if len(layers) > 1:
            raise ValueError(
                f"{path} has a classifier of {len(layers)} layers ({', '.join(layers)}); expected one linear layer: pass "
                "MODEL=package.module:factory that builds this network"
            )
        if layers:
            weight = names.pop(f"{layers[0]}.weight")
            if weight.ndim not in (2, 4):
                raise ValueError(
                    f"{path} has a classifier of {list(weight.shape)}; expected a linear layer, [classes, channels]"
                )
            bias = names.pop(f"{layers[0]}.bias", torch.zeros(weight.shape[0]))
            flat = weight.flatten(1) if weight.shape[2:].numel() == 1 else weight
            return {**inside, "fc.weight": flat, "fc.bias": bias}, outside
    raise ValueError(
        f"{path} has no classifier (none of {', '.join(HEADS)}); expected a network that classifies: train one on top of it"
    )


def spec_from(state: dict[str, Tensor], arch: str, path: Path) -> tuple[Spec, list[str]]:
    """What network `state` is: blocks, widths, stem, input channels and classes all read from its tensors; and notes.

    Raises ValueError when it is not `arch`, or a variant that the family does not have.
    """
    refuse_variants(state, path)
    flat = [n for n, t in state.items() if CONVOLUTION.search(n) and (t.ndim != 4 or not t.numel())]
    if flat:
        shapes = some([f"{n} {list(state[n].shape)}" for n in flat], 3)
        raise ValueError(f"{path} does not fit the network (mis-shaped: {shapes}); {WHOLE}")
    weight, head = state["conv1.weight"], state["fc.weight"]
    if tuple(weight.shape[2:]) not in ((7, 7), (3, 3)) or head.ndim != 2:
        raise ValueError(
            f"{path} has a stem of {list(weight.shape)} and a classifier of {list(head.shape)}; expected 7x7 or 3x3, and a "
            "linear layer"
        )
    depths = tuple(len({n.split(".")[1] for n in state if n.startswith(f"layer{s}.")}) for s in (1, 2, 3, 4))
    block: Kind = (
        "split" if "layer1.0.convs.0.weight" in state else "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    )
    spec = Spec(
        arch=arch, block=block, preact="norm.weight" in state, stem="imagenet" if weight.shape[-1] == 7 else "small",
        groups=groups_of(state, block), in_channels=weight.shape[1], num_classes=head.shape[0], stem_width=weight.shape[0],
        widths=tuple(
            tuple(widths_of(state, f"layer{stage}.{b}.", block, path) for b in range(depth))
            for stage, depth in enumerate(depths, start=1)
        ),
    )  # fmt: skip
    alike = [name for name, member in FAMILY.items() if is_like(member, spec, depths)]
    exact = [name for name in alike if family_spec(name).widths == spec.widths]
    found = exact or alike
    if not found:
        kind = f"{'pre-activation ' if spec.preact else ''}{block} blocks {list(depths)} in {spec.groups} groups"
        raise ValueError(f"{path} is a ResNet with {kind}, none of the family; known models: {', '.join(FAMILY)}")
    if arch not in found:
        raise ValueError(
            f"{path}: this is a {found[0]}, {spec.num_classes} classes; MODEL says {arch}: pass MODEL={found[0]}, or another "
            "checkpoint"
        )
    notes = []
    if not exact:
        notes.append(f"The checkpoint's channels are not {arch}'s own (pruned, or of another width): read from its weights.")
    if spec.stem == "small":
        notes.append("The checkpoint's stem is 3x3: taken as the form for small images, stride 1 and no max pooling.")
    return spec, notes


def is_like(member: Member, spec: Spec, depths: tuple[int, ...]) -> bool:
    return (member.block, member.preact, member.groups, member.depths) == (spec.block, spec.preact, spec.groups, depths)


def refuse_variants(state: dict[str, Tensor], path: Path) -> None:
    found = [
        what
        for what, there in {
            "a deep stem (ResNet-C, -D)": "conv1.0.weight" in state,
            "squeeze-and-excitation": any(".se." in n or ".se_module." in n for n in state),
            "norms without running statistics": not any(n.endswith("running_mean") for n in state),
        }.items()
        if there
    ]
    if found:
        raise ValueError(
            f"{path} is a ResNet with {joined(found)}, which the family has not; pass MODEL=package.module:factory that "
            "builds it"
        )


def groups_of(state: dict[str, Tensor], block: Kind) -> int:
    """Groups of the 3x3 convolutions; 1 where the tensors do not say."""
    first, second = state.get("layer1.0.conv1.weight"), state.get("layer1.0.conv2.weight")
    if block != "bottleneck" or first is None or second is None:
        return 1
    return max(1, first.shape[0] // second.shape[1])


def widths_of(state: dict[str, Tensor], prefix: str, block: Kind, path: Path) -> tuple[int, ...]:
    """Output channels of a block's convolutions."""
    chain = sorted(n for n in state if n.startswith(f"{prefix}convs.") and n.endswith(".weight"))
    names = {
        "basic": [f"{prefix}conv{i}.weight" for i in (1, 2)],
        "bottleneck": [f"{prefix}conv{i}.weight" for i in (1, 2, 3)],
        "split": [f"{prefix}conv1.weight", *chain, f"{prefix}conv3.weight"],
    }[block]
    if missing := [name for name in names if name not in state]:
        raise ValueError(f"{path} does not fit the network (missing: {some(missing)}); {WHOLE}")
    return tuple(state[name].shape[0] for name in names)


def check_keys(expected: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    """ValueError naming every missing, unexpected or mis-shaped key (the first few of each)."""
    problems = {
        "missing": [k for k in expected if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in expected],
        "mis-shaped": [
            f"{k} {list(state[k].shape)} for {list(expected[k].shape)}"
            for k in expected
            if k in state and state[k].shape != expected[k].shape
        ],
    }
    told = "; ".join(f"{kind}: {some(keys)}" for kind, keys in problems.items() if keys)
    if told:
        raise ValueError(f"{path} does not fit the network ({told}); {WHOLE}")
    for key in expected:
        if key not in state:  # old checkpoints have no num_batches_tracked
            state[key] = torch.zeros((), dtype=torch.int64)


def best_prefix(expected: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """The prefix of `state` behind which most of the `expected` keys are."""
    known = set(expected)
    prefixes = {""} | {".".join(name.split(".")[:k]) + "." for name in state for k in (1, 2, 3)}
    return max(sorted(prefixes), key=lambda p: sum(n.startswith(p) and n.removeprefix(p) in known for n in state))
