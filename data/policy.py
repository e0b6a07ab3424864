"""AutoAugment, RandAugment and TrivialAugment of uint8 batches on any device.

autoaugment           Cubuk et al. 2019 (arXiv:1805.09501), the policy that was found on ImageNet
autoaugment_cifar10   the one that was found on CIFAR-10
randaugment           Cubuk et al. 2020 (arXiv:1909.13719)
trivialaugment        Müller & Hutter 2021 (arXiv:2103.10158), with its wide ranges

kornia has the operations on colours and the tables of AutoAugment, torch warps. kornia's own classes draw one operation for a
whole batch; here every image draws its own, on the host, so no step waits for a GPU. Strength 0 changes nothing in all
operations.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

PolicyName = Literal["autoaugment", "autoaugment_cifar10", "randaugment", "trivialaugment"]

WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
COLOURS = ("auto_contrast", "equalize", "solarize", "color", "posterize", "contrast", "brightness", "sharpness")
USUAL = ("identity", *COLOURS, *WARPS)  # the operations of RandAugment and TrivialAugment
NAMES = (*USUAL, "invert")
STRONGEST = 30  # the magnitudes of RandAugment and TrivialAugment are 0 … 30
BINS = 9  # those of AutoAugment 0 … 9


class Ranges(NamedTuple):
    """What operations do at strength 1: degrees, shear, a share of the side and at most pixels, bits less, 1 ± colours."""

    rotate: float
    shear: float
    translate: float
    pixels: float
    posterize: float
    colours: float


USUAL_RANGES = Ranges(rotate=30.0, shear=0.3, translate=150 / 331, pixels=float("inf"), posterize=4.0, colours=0.9)
WIDE_RANGES = Ranges(rotate=135.0, shear=0.99, translate=1.0, pixels=32.0, posterize=6.0, colours=0.99)


class Policy:
    """A policy for a training split of `count` images. Every image draws anew in every epoch; equal seeds give equal draws.

    `layers` and `magnitude` (0 … 30) are RandAugment's: how many operations an image gets, and how strong they are.
    """

    def __init__(self, name: PolicyName, count: int, layers: int = 2, magnitude: float = 9.0) -> None:
        self.name, self.count, self.layers, self.magnitude = name, count, layers, magnitude
        self.seed: int | None = None

    def __call__(self, pixels: Tensor, seed: int, indices: list[int]) -> Tensor:
        """The batch `pixels`, as in `applied`, of the images at `indices` in the epoch with that `seed`."""
        if seed != self.seed:
            rng = np.random.default_rng((seed, 1))  # other numbers than those of the shifts
            self.seed, self.epoch = seed, drawn(self.name, self.count, rng, self.layers, self.magnitude)
        operations, strengths, ranges = self.epoch
        return applied(pixels, Drawn(operations[:, indices], strengths[:, indices], ranges))


class Drawn(NamedTuple):
    """Which operations each image gets, one after the other: numbers of `NAMES`, and strengths -1 … 1; both [layers, N]."""

    operations: np.ndarray
    strengths: np.ndarray
    ranges: Ranges


def drawn(policy: PolicyName, count: int, rng: np.random.Generator, layers: int = 2, magnitude: float = 9.0) -> Drawn:
    """The operations of `count` images; `layers` and `magnitude` as in `Policy`."""
    if policy == "randaugment":
        operations = rng.integers(len(USUAL), size=(layers, count))
        return Drawn(operations, signs(rng, (layers, count)) * magnitude / STRONGEST, USUAL_RANGES)
    if policy == "trivialaugment":
        strengths = rng.integers(STRONGEST + 1, size=(1, count)) / STRONGEST
        return Drawn(rng.integers(len(USUAL), size=(1, count)), signs(rng, (1, count)) * strengths, WIDE_RANGES)
    operations, probabilities, bins = autoaugment_tables(policy)
    chosen = rng.integers(operations.shape[1], size=count)
    happens = rng.random((len(operations), count)) < probabilities[:, chosen]
    found = np.where(happens, operations[:, chosen], NAMES.index("identity"))
    return Drawn(found, signs(rng, found.shape) * bins[:, chosen] / BINS, USUAL_RANGES)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)


def autoaugment_tables(policy: PolicyName) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the sub-policies: the operations (numbers of `NAMES`), their probabilities and their magnitudes, each [2, 25]."""
    from kornia.augmentation.auto.autoaugment import autoaugment

    table = autoaugment.imagenet_policy if policy == "autoaugment" else autoaugment.cifar10_policy
    operations = [[NAMES.index(name) for name, _, _ in pair] for pair in table]
    probabilities = [[probability for _, probability, _ in pair] for pair in table]
    bins = [[magnitude or 0 for _, _, magnitude in pair] for pair in table]
    return np.array(operations).T, np.array(probabilities).T, np.array(bins, float).T


def applied(pixels: Tensor, what: Drawn) -> Tensor:
    """`pixels` uint8 [N, side, side, C], red first, after their operations."""
    x = pixels.permute(0, 3, 1, 2).float() / 255
    for operations, strengths in zip(what.operations, what.strengths, strict=True):
        x = layer(x, operations, strengths, what.ranges)
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def layer(x: Tensor, operations: np.ndarray, strengths: np.ndarray, ranges: Ranges) -> Tensor:
    """`x` float32 [N, C, side, side] of 0 … 1, each image after its own operation: all images with one operation at once."""
    order = np.argsort(operations, kind="stable")
    operations, strengths = operations[order], strengths[order]
    x = x[sent(order, x)]
    names = np.array(["warp" if NAMES[number] in WARPS else NAMES[number] for number in operations])
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(names)]
    parts = []
    for first, last in pairwise(starts):
        part, name = slice(first, last), names[first]
        if name == "warp":
            theta = np.stack(
                [inverse_map(*each, ranges, x.shape[-1]) for each in zip(operations[part], strengths[part], strict=True)]
            )
            parts.append(warped(x[part], sent(theta.astype(np.float32), x)))
        else:
            parts.append(coloured(name, x[part], sent(strengths[part].astype(np.float32), x), ranges))
    return torch.cat(parts)[sent(np.argsort(order), x)]


def sent(values: np.ndarray, like: Tensor) -> Tensor:
    """`values` on the device of `like`, without waiting for it."""
    return torch.from_numpy(values).to(like.device, non_blocking=True)


def inverse_map(operation: int, strength: float, ranges: Ranges, side: int) -> np.ndarray:
    """Where the pixels of a warped image come from: [2, 3], for coordinates of -1 … 1."""
    name = NAMES[operation]
    theta = np.eye(2, 3)
    if name == "rotate":
        angle = np.radians(strength * ranges.rotate)
        theta[:, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    elif name.startswith("shear"):
        theta[(0, 1) if name == "shear_x" else (1, 0)] = strength * ranges.shear
    else:
        theta[0 if name == "translate_x" else 1, 2] = 2 * strength * min(ranges.translate, ranges.pixels / side)
    return theta


def warped(x: Tensor, theta: Tensor) -> Tensor:
    """`x` [N, C, side, side] warped by `theta` [N, 2, 3]; what comes from outside is black."""
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def coloured(name: str, x: Tensor, strengths: Tensor, ranges: Ranges) -> Tensor:
    """`x` [N, C, side, side] after the operation `name`; `strengths` [N]. Kept within 0 … 1."""
    from kornia import enhance

    factors = 1 + strengths * ranges.colours
    amounts = strengths.abs()
    functions: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: x,
        "invert": lambda: 1 - x,
        "auto_contrast": lambda: stretched(x),
        "equalize": lambda: enhance.equalize(x),
        "solarize": lambda: enhance.solarize(x, 256 / 255 * (1 - amounts)),  # at 0, white is not inverted, either
        "posterize": lambda: enhance.posterize(x, 8 - (amounts * ranges.posterize).round().int()),
        "color": lambda: enhance.adjust_saturation_with_gray_subtraction(x, factors),
        "contrast": lambda: enhance.adjust_contrast_with_mean_subtraction(x, factors),
        "brightness": lambda: enhance.adjust_brightness_accumulative(x, factors),
        "sharpness": lambda: enhance.sharpness(x, factors),
    }
    return functions[name]().clamp(0, 1)


def stretched(x: Tensor) -> Tensor:
    """Every channel of `x` stretched to 0 … 1; one with a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)
