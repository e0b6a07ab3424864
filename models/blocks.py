"""The residual blocks of the family. All of them map [N, C, H, W] to [N, out, H / stride, W / stride].

While a block's `skipped` is set it passes its input on and costs nothing (only where input and output have one shape).
While `drop` is above 0, every training image skips the residual branch with that probability, and the branch of the others is
scaled so that its mean stays: stochastic depth (Huang et al. 2016, arXiv:1603.09382). In evaluation mode it changes nothing.
Attribute names are torchvision's (`Block`), the Res2Net authors' and timm's (`SplitBlock`), and torchvision's again for
`PreactBlock`, for which torchvision has none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Padding(nn.Module):
    """A shortcut without weights, option A of He et al. 2015: every `stride`-th pixel, and `missing` channels of zeros.

    Half of the zeros come before the channels and half after them, as in the CIFAR checkpoints that people pass around.
    """

    def __init__(self, stride: int, missing: int) -> None:
        super().__init__()
        self.stride = stride
        self.before, self.after = missing // 2, missing - missing // 2

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class Residual(nn.Module, ABC):
    """What all blocks share. `depth` is the number of convolutions conv1 … conv<depth> of a plain block."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.skipped = False
        self.drop = 0.0
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None

    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions of the residual branch, in the order of the block's widths."""
        return [getattr(self, f"conv{i}") for i in range(1, self.depth + 1)]

    def kept(self, branch: Tensor) -> Tensor:
        """The residual `branch` [N, C, H, W], zero for the images that skip it."""
        if not (self.training and self.drop):
            return branch
        keep = 1 - self.drop
        return branch * branch.new_empty(len(branch), 1, 1, 1).bernoulli_(keep).div_(keep)

    @abstractmethod
    def zero(self) -> None:
        """Make the block start as the identity (Goyal et al. 2017, arXiv:1706.02677)."""


def shapes(widths: tuple[int, ...], stride: int) -> list[tuple[int, int, int]]:
    """(width, kernel, stride) of the convolutions of a plain block; the stride sits on the first 3x3."""
    if len(widths) == 2:
        return [(widths[0], 3, stride), (widths[1], 3, 1)]
    return [(widths[0], 1, 1), (widths[1], 3, stride), (widths[2], 1, 1)]


class Block(Residual):
    """Basic (two 3x3) or bottleneck (1x1, 3x3 in `groups`, 1x1) block; He et al. 2015 (arXiv:1512.03385).

    With groups it is ResNeXt's (Xie et al. 2017, arXiv:1611.05431); as in torchvision the stride is on the 3x3 (v1.5).
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], stride: int, project: bool, groups: int = 1) -> None:
        super().__init__()
        self.depth = len(widths)
        previous = in_channels
        for i, (width, kernel, step) in enumerate(shapes(widths, stride), start=1):
            split = groups if self.depth == 3 and kernel == 3 else 1
            self.add_module(f"conv{i}", nn.Conv2d(previous, width, kernel, step, kernel // 2, groups=split, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            previous = width
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, previous, 1, stride, bias=False), nn.BatchNorm2d(previous))

    def zero(self) -> None:
        nn.init.zeros_(getattr(self, f"bn{self.depth}").weight)

    def branch(self, x: Tensor) -> Tensor:
        """What the convolutions compute from `x`, before the last ReLU."""
        for i in range(1, self.depth + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.depth:
                x = self.relu(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self.skipped:
            return x
        shortcut = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.relu(self.kept(self.branch(x)) + shortcut))


class PlainBlock(Block):
    """The layers of a `Block` without its shortcut: those of the plain networks of He et al. 2015."""

    def zero(self) -> None:
        """Change nothing: the block cannot be the identity, and no gradient would get through norms of zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.skipped else cast(Tensor, self.relu(self.branch(x)))


class PreactBlock(Residual):
    """Norm and ReLU before every convolution, nothing after the addition; He et al. 2016 (arXiv:1603.05027).

    A projected shortcut reads what the first norm made, and has no norm of its own.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], stride: int, project: bool, groups: int = 1) -> None:
        super().__init__()
        self.depth = len(widths)
        previous = in_channels
        for i, (width, kernel, step) in enumerate(shapes(widths, stride), start=1):
            split = groups if self.depth == 3 and kernel == 3 else 1
            self.add_module(f"bn{i}", nn.BatchNorm2d(previous))
            self.add_module(f"conv{i}", nn.Conv2d(previous, width, kernel, step, kernel // 2, groups=split, bias=False))
            previous = width
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, previous, 1, stride, bias=False))

    def zero(self) -> None:
        nn.init.zeros_(getattr(self, f"conv{self.depth}").weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.skipped:
            return x
        active = torch.relu(self.get_submodule("bn1")(x))  # not in place: the identity shortcut still needs x
        shortcut = x if self.downsample is None else self.downsample(active)
        out = self.convolutions()[0](active)
        for i in range(2, self.depth + 1):
            out = getattr(self, f"conv{i}")(self.relu(getattr(self, f"bn{i}")(out)))
        return self.kept(out) + shortcut


class SplitBlock(Residual):
    """Res2Net's bottleneck (Gao et al. 2019, arXiv:1904.01169): the 3x3 as a chain over equal splits of the channels.

    `widths` are the outputs of conv1, of every 3x3 of the chain, and of conv3. The last split passes without a convolution;
    in a block that changes shape the splits are not chained, and the last one is average-pooled.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], stride: int, project: bool, groups: int = 1) -> None:
        super().__init__()
        first, *chain, last = widths
        self.split = first // (len(chain) + 1)
        self.conv1 = nn.Conv2d(in_channels, first, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.convs = nn.ModuleList(nn.Conv2d(self.split, w, 3, stride, 1, groups=groups, bias=False) for w in chain)
        self.bns = nn.ModuleList(nn.BatchNorm2d(w) for w in chain)
        self.conv3 = nn.Conv2d(self.split + sum(chain), last, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(last)
        self.pool = nn.AvgPool2d(3, stride, 1) if project else None
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, last, 1, stride, bias=False), nn.BatchNorm2d(last))

    def convolutions(self) -> list[nn.Conv2d]:
        return [self.conv1, *cast(list[nn.Conv2d], list(self.convs)), self.conv3]

    def zero(self) -> None:
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.skipped:
            return x
        shortcut = x if self.downsample is None else self.downsample(x)
        parts = torch.split(self.relu(self.bn1(self.conv1(x))), self.split, 1)
        done: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.bns, strict=True)):
            part = parts[i] if i == 0 or self.pool is not None else done[-1] + parts[i]
            done.append(self.relu(norm(conv(part))))
        done.append(parts[len(self.convs)] if self.pool is None else self.pool(parts[len(self.convs)]))
        x = self.bn3(self.conv3(torch.cat(done, 1)))
        return cast(Tensor, self.relu(self.kept(x) + shortcut))


@contextmanager
def stochastic_depth(model: nn.Module, drop: float) -> Iterator[None]:
    """Inside, the last block of `model` has that `drop`, the blocks before it less and less: linear decay.

    Raises ValueError for a `model` without residual blocks of this file.
    """
    residual = [module for module in model.modules() if isinstance(module, Residual) and not isinstance(module, PlainBlock)]
    if drop and not residual:
        raise ValueError(
            f"stochastic_depth = {drop:g}: {type(model).__name__} has no residual blocks that are known; expected a network of "
            "the ResNet family, or stochastic_depth = 0"
        )
    blocks = residual if drop else []
    for number, block in enumerate(blocks, start=1):
        block.drop = drop * number / len(blocks)
    try:
        yield
    finally:
        for block in blocks:
            block.drop = 0.0
