"""A state_dict under torchvision's names -> the spec of the network that it describes."""

import re
from pathlib import Path

import torch
from torch import Tensor

from core.text import joined, some
from models.resnet import FAMILY, Kind, Member, Spec, family_spec

WHOLE = "expected the whole state_dict of one network"
PADDED = (
    "The checkpoint's shortcuts have no weights (option A): taken as every second pixel with zero channels, half of them "
    "before and half after the others."
)
CONVOLUTION = re.compile(r"(^|\.)(conv\d|convs\.\d+|downsample\.0)\.weight$")


def spec_from(state: dict[str, Tensor], arch: str, path: Path) -> tuple[Spec, list[str]]:
    """The spec of the network with the tensors `state` (blocks, widths, stem, input channels, classes), and notes.

    Raises ValueError if it is not `arch`, or if it is a variant that the family does not have.
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
    depths = depths_of(state)
    block: Kind = (
        "split" if "layer1.0.convs.0.weight" in state else "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    )
    spec = Spec(
        arch=arch, block=block, preact="norm.weight" in state, stem="imagenet" if weight.shape[-1] == 7 else "small",
        groups=groups_of(state, block), in_channels=weight.shape[1], num_classes=head.shape[0], stem_width=weight.shape[0],
        shortcut="padding" if len(depths) == 3 and not any(".downsample." in n for n in state) else "projection",
        widths=tuple(
            tuple(widths_of(state, f"layer{stage}.{b}.", block, path) for b in range(depth))
            for stage, depth in enumerate(depths, start=1)
        ),
    )  # fmt: skip
    alike = [name for name, member in FAMILY.items() if is_like(member, spec, depths)]
    exact = [name for name in alike if family_spec(name).widths == spec.widths]
    found = exact or alike
    if not found:
        kind = f"{'pre-activation ' if spec.preact else ''}{block} blocks {[d for d in depths if d]} in {spec.groups} groups"
        raise ValueError(
            f"{path} is a ResNet with {kind}, none of the family; known models: {', '.join(FAMILY)}; or pass "
            "MODEL=package.module:factory that builds it"
        )
    if arch not in found:
        raise ValueError(
            f"{path}: this is a {found[0]}, {spec.num_classes} classes; MODEL says {arch}: pass MODEL={found[0]}, or another "
            "checkpoint"
        )
    notes = []
    if not exact:
        notes.append(f"The checkpoint's channels differ from {arch}'s (pruned, or another width): read from its weights.")
    if spec.shortcut == "padding":
        notes.append(PADDED)
    if spec.stem == "small":
        notes.append("The checkpoint's stem is 3x3: the variant for small images is used (stride 1, no max pooling).")
    return spec, notes


def depths_of(state: dict[str, Tensor]) -> tuple[int, ...]:
    """The number of blocks in every stage: the networks for CIFAR have three stages, the others four."""
    stages = 3 if not any(n.startswith("layer4.") for n in state) else 4
    return tuple(len({n.split(".")[1] for n in state if n.startswith(f"layer{s}.")}) for s in range(1, stages + 1))


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
            f"{path} is a ResNet with {joined(found)}, which the family does not have; pass MODEL=package.module:factory that "
            "builds it"
        )


def groups_of(state: dict[str, Tensor], block: Kind) -> int:
    """Groups of the 3x3 convolutions; 1 if they cannot be read from the tensors."""
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
    found = "; ".join(f"{kind}: {some(keys)}" for kind, keys in problems.items() if keys)
    if found:
        raise ValueError(f"{path} does not fit the network ({found}); {WHOLE}")
    for key in expected:
        if key not in state:  # old checkpoints have no num_batches_tracked
            state[key] = torch.zeros((), dtype=torch.int64)
