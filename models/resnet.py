"""ResNet whose channel widths are data, with torchvision's state_dict keys.

A network is described by a `Spec` (JSON) and rebuilt from it, so a pruned network loads like any other.
Paper: He et al., Deep Residual Learning for Image Recognition, 2015 (arXiv:1512.03385); as in torchvision the stride of a
bottleneck sits on its 3x3 convolution (v1.5).
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from pipeline.config import Config

BLOCKS: dict[str, tuple[Literal["basic", "bottleneck"], tuple[int, int, int, int]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}


class Spec(Config):
    """Everything needed to rebuild a network except its weights.

    `widths[stage][block]` are the output channels of the block's convolutions, in order.
    """

    arch: str
    block: Literal["basic", "bottleneck"]
    stem: Literal["imagenet", "small"] = "imagenet"
    in_channels: int = 3
    num_classes: int = 1000
    stem_width: int = 64
    widths: tuple[tuple[tuple[int, ...], ...], ...]


def family_spec(
    arch: str, *, num_classes: int = 1000, in_channels: int = 3, stem: Literal["imagenet", "small"] = "imagenet"
) -> Spec:
    """The unpruned member `arch` of the family.

    Raises ValueError when `arch` is not one of `BLOCKS`.
    """
    if arch not in BLOCKS:
        raise ValueError(f"unknown model {arch!r}; known models: {', '.join(BLOCKS)}")
    block, depths = BLOCKS[arch]
    widths = tuple(
        tuple((planes, planes) if block == "basic" else (planes, planes, 4 * planes) for _ in range(depth))
        for planes, depth in zip((64, 128, 256, 512), depths, strict=True)
    )
    return Spec(arch=arch, block=block, stem=stem, in_channels=in_channels, num_classes=num_classes, widths=widths)


class Block(nn.Module):
    """A basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block; [N, C, H, W] -> [N, widths[-1], H/stride, W/stride].

    While `skipped` is set the block passes its input on and costs nothing (only where input and output have one shape).
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], stride: int, project: bool) -> None:
        super().__init__()
        basic = len(widths) == 2
        kernels = (3, 3) if basic else (1, 3, 1)
        strides = (stride, 1) if basic else (1, stride, 1)
        self.depth = len(widths)
        self.skipped = False
        previous = in_channels
        for i, (width, kernel, step) in enumerate(zip(widths, kernels, strides, strict=True), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(previous, width, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            previous = width
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, previous, 1, stride, bias=False), nn.BatchNorm2d(previous))
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.skipped:
            return x
        shortcut = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.depth + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.depth:
                x = self.relu(x)
        return cast(Tensor, self.relu(x + shortcut))


class ResNet(nn.Module):
    """A ResNet built from its `Spec`; float32 [N, in_channels, H, W] -> logits [N, num_classes]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        imagenet = spec.stem == "imagenet"
        self.conv1 = nn.Conv2d(
            spec.in_channels,
            spec.stem_width,
            7 if imagenet else 3,
            2 if imagenet else 1,
            3 if imagenet else 1,
            bias=False,
        )
        self.bn1 = nn.BatchNorm2d(spec.stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        channels = spec.stem_width
        for stage, blocks in enumerate(spec.widths):
            layer = nn.Sequential()
            for i, widths in enumerate(blocks):
                # Structural, not read off the widths: pruning may make them equal where the shortcut is projected.
                project = i == 0 and (stage > 0 or spec.block == "bottleneck")
                layer.append(Block(channels, widths, 2 if i == 0 and stage > 0 else 1, project))
                channels = widths[-1]
            self.add_module(f"layer{stage + 1}", layer)
        self.stages = len(spec.widths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(x), 1)))


def initialise(model: nn.Module) -> None:
    """He initialisation, and zero gamma in the last norm of every block (Goyal et al. 2017, arXiv:1706.02677)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in model.modules():
        if isinstance(module, Block):
            nn.init.zeros_(getattr(module, f"bn{module.depth}").weight)


def blocks_of(model: ResNet) -> list[list[Block]]:
    """The residual blocks, stage by stage."""
    return [cast(list[Block], list(getattr(model, f"layer{s + 1}"))) for s in range(model.stages)]


def spec_of(model: ResNet, like: Spec) -> Spec:
    """The spec of `model` after its channels changed; what widths do not say is taken from `like`."""
    widths = tuple(
        tuple(tuple(getattr(b, f"conv{i}").out_channels for i in range(1, b.depth + 1)) for b in blocks)
        for blocks in blocks_of(model)
    )
    return like.model_copy(update={"stem_width": model.conv1.out_channels, "widths": widths})
