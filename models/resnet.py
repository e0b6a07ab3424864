"""The ResNet family, its channel widths as data, with torchvision's state_dict keys.

A network is described by a `Spec` (JSON) and rebuilt from it, so a pruned network loads like any other.
Papers: see the blocks (models/blocks.py); Wide-ResNet: Zagoruyko & Komodakis 2016 (arXiv:1605.07146); resnet20 … 110 are the
networks for CIFAR of He et al. 2015, section 4.2.
"""

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from core.config import Config
from models.blocks import Block, Padding, PlainBlock, PreactBlock, Residual, SplitBlock

Stem = Literal["imagenet", "small"]
Kind = Literal["basic", "bottleneck", "split"]
Shortcut = Literal["projection", "padding"]
Shortcuts = Literal[Shortcut, "none"]


class Member(NamedTuple):
    """One network of the family; `depths` and `planes` have one number for each stage.

    `base_width` of 64 channels is the width inside a block; `scale` splits of Res2Net. `stem` and `shortcut` can be changed.
    """

    block: Kind
    depths: tuple[int, ...]
    base_width: int = 64
    groups: int = 1
    preact: bool = False
    scale: int = 1
    planes: tuple[int, ...] = (64, 128, 256, 512)
    stem: Stem = "imagenet"
    shortcut: Shortcut = "projection"


def cifar(depth: int) -> Member:
    """Three stages of `depth` blocks with two convolutions, for images of 32x32 pixels: 6 x `depth` + 2 layers."""
    return Member("basic", (depth,) * 3, planes=(16, 32, 64), stem="small", shortcut="padding")


FAMILY: dict[str, Member] = {
    "resnet18": Member("basic", (2, 2, 2, 2)),
    "resnet34": Member("basic", (3, 4, 6, 3)),
    "resnet50": Member("bottleneck", (3, 4, 6, 3)),
    "resnet101": Member("bottleneck", (3, 4, 23, 3)),
    "resnet152": Member("bottleneck", (3, 8, 36, 3)),
    "resnext50_32x4d": Member("bottleneck", (3, 4, 6, 3), base_width=4, groups=32),
    "resnext101_32x8d": Member("bottleneck", (3, 4, 23, 3), base_width=8, groups=32),
    "resnext101_64x4d": Member("bottleneck", (3, 4, 23, 3), base_width=4, groups=64),
    "wide_resnet50_2": Member("bottleneck", (3, 4, 6, 3), base_width=128),
    "wide_resnet101_2": Member("bottleneck", (3, 4, 23, 3), base_width=128),
    "res2net50_26w_4s": Member("split", (3, 4, 6, 3), base_width=26, scale=4),
    "res2net101_26w_4s": Member("split", (3, 4, 23, 3), base_width=26, scale=4),
    "resnetv2_50": Member("bottleneck", (3, 4, 6, 3), preact=True),
    "resnetv2_101": Member("bottleneck", (3, 4, 23, 3), preact=True),
    "resnet20": cifar(3),
    "resnet32": cifar(5),
    "resnet44": cifar(7),
    "resnet56": cifar(9),
    "resnet110": cifar(18),
}


class Spec(Config):
    """Everything needed to rebuild a network except its weights.

    `widths[stage][block]` are the output channels of the block's convolutions, in order. `shortcut` is how the shortcuts that
    change the shape do it: by a 1x1 convolution (option B of He et al. 2015) or by padding with zeros (option A). With "none",
    no block has a shortcut: the paper's plain networks. Their weights look like those of option A, so no user's file is read as
    one of them.
    """

    arch: str
    block: Kind
    groups: int = 1
    preact: bool = False
    stem: Stem = "imagenet"
    in_channels: int = 3
    num_classes: int = 1000
    stem_width: int = 64
    shortcut: Shortcuts = "projection"
    widths: tuple[tuple[tuple[int, ...], ...], ...]


def family_spec(
    arch: str, *, num_classes: int = 1000, in_channels: int = 3, stem: Stem | None = None, shortcut: Shortcuts | None = None
) -> Spec:
    """The unpruned member `arch` of the family; its own stem and shortcuts where None is given.

    Raises ValueError when `arch` is not one of `FAMILY`, for padded shortcuts of a member that has none, and where blocks that
    are not basic would have no shortcuts.
    """
    if arch not in FAMILY:
        raise ValueError(f"unknown model {arch!r}; known models: {', '.join(FAMILY)}")
    member = FAMILY[arch]
    if shortcut == "padding" != member.shortcut:
        padded = ", ".join(name for name, other in FAMILY.items() if other.shortcut == "padding")
        raise ValueError(f"{arch} has no shortcuts that pad; expected shortcut 'projection', or one of {padded}")
    if shortcut == "none" and member.block != "basic":
        raise ValueError(f"{arch} has {member.block} blocks; expected basic blocks, such as resnet18's, without shortcuts")
    widths = tuple(
        tuple(block_widths(member, planes) for _ in range(depth))
        for planes, depth in zip(member.planes, member.depths, strict=True)
    )
    return Spec(
        arch=arch, block=member.block, groups=member.groups, preact=member.preact, stem=stem or member.stem,
        in_channels=in_channels, num_classes=num_classes, stem_width=member.planes[0],
        shortcut=shortcut or member.shortcut, widths=widths,
    )  # fmt: skip


def block_widths(member: Member, planes: int) -> tuple[int, ...]:
    """The output channels of the convolutions of one block in the stage of `planes`."""
    if member.block == "basic":
        return (planes, planes)
    inner = planes * member.base_width // 64 * member.groups
    if member.block == "bottleneck":
        return (inner, inner, 4 * planes)
    return (inner * member.scale, *[inner] * (member.scale - 1), 4 * planes)


class ResNet(nn.Module):
    """A ResNet built from its `Spec`; float32 [N, in_channels, H, W] -> logits [N, num_classes]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        imagenet = spec.stem == "imagenet"
        kernel, stride, padding = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1 = nn.Conv2d(spec.in_channels, spec.stem_width, kernel, stride, padding, bias=False)
        if not spec.preact:
            self.bn1 = nn.BatchNorm2d(spec.stem_width)
        self.preact = spec.preact
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        basic = PlainBlock if spec.shortcut == "none" else Block
        kind = SplitBlock if spec.block == "split" else PreactBlock if spec.preact else basic
        channels = spec.stem_width
        for stage, blocks in enumerate(spec.widths):
            layer = nn.Sequential()
            for i, widths in enumerate(blocks):
                # Structural, not read off the widths: pruning may make them equal where the shortcut is projected.
                reshapes = i == 0 and (stage > 0 or spec.block != "basic")
                stride = 2 if i == 0 and stage > 0 else 1
                block = kind(channels, widths, stride, reshapes and spec.shortcut == "projection", spec.groups)
                if reshapes and spec.shortcut == "padding":
                    block.downsample = Padding(stride, widths[-1] - channels)
                layer.append(block)
                channels = widths[-1]
            self.add_module(f"layer{stage + 1}", layer)
        self.stages = len(spec.widths)
        if spec.preact:
            self.norm = nn.BatchNorm2d(channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if not self.preact:
            x = self.relu(self.bn1(x))
        x = self.maxpool(x)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        if self.preact:
            x = self.relu(self.norm(x))
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(x), 1)))


def initialise(model: nn.Module, identity: bool = True) -> None:
    """He initialisation; with `identity`, residual blocks start as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in model.modules():
        if identity and isinstance(module, Residual):
            module.zero()


def blocks_of(model: ResNet) -> list[list[Residual]]:
    """The residual blocks, stage by stage."""
    return [cast(list[Residual], list(getattr(model, f"layer{s + 1}"))) for s in range(model.stages)]


def pads(network: nn.Module) -> bool:
    """Whether shortcuts of `network` pad with zeros: then the channels of the residual stream cannot be pruned."""
    return any(isinstance(module, Padding) for module in network.modules())


def spec_of(model: ResNet, like: Spec) -> Spec:
    """The spec of `model` after its channels changed; what widths do not say is taken from `like`."""
    widths = tuple(tuple(tuple(c.out_channels for c in b.convolutions()) for b in blocks) for blocks in blocks_of(model))
    return like.model_copy(update={"stem_width": model.conv1.out_channels, "widths": widths})
