"""AutoAugment, RandAugment, TrivialAugment: each operation as in Pillow, and who draws which one."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from data.feed import feed
from data.index import Data, index
from data.loader import Split
from data.policy import (
    NAMES,
    USUAL,
    USUAL_RANGES,
    WARPS,
    WIDE_RANGES,
    Drawn,
    Policy,
    PolicyName,
    applied,
    autoaugment_tables,
    drawn,
)

SIDE = 32
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
OF_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, strength: image,
    "invert": lambda image, strength: ImageOps.invert(image),
    "auto_contrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "solarize": lambda image, strength: ImageOps.solarize(image, math.ceil(256 * (1 - abs(strength)))),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "color": lambda image, strength: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
    "rotate": lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR),
    "shear_x": lambda image, strength: affine(image, 1, 0.3 * strength, -0.3 * strength * SIDE / 2, 0, 1, 0),
    "shear_y": lambda image, strength: affine(image, 1, 0, 0, 0.3 * strength, 1, -0.3 * strength * SIDE / 2),
    "translate_x": lambda image, strength: affine(image, 1, 0, strength * SIDE * 150 / 331, 0, 1, 0),
    "translate_y": lambda image, strength: affine(image, 1, 0, 0, 0, 1, strength * SIDE * 150 / 331),
}


def affine(image: Image.Image, *data: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def picture(channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth image, uint8 [SIDE, SIDE, channels]: neighbours of noise would differ by how they are interpolated."""
    small = np.random.default_rng(seed).integers(20, 236, (4, 4, channels), np.uint8)
    planes = [Image.fromarray(small[:, :, c]).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def one(name: str, strength: float, pixels: np.ndarray) -> np.ndarray:
    """A single image after a single operation."""
    what = Drawn(np.array([[NAMES.index(name)]]), np.array([[strength]]), USUAL_RANGES)
    return applied(torch.from_numpy(pixels[None]), what).numpy()[0]


@pytest.mark.parametrize("strength", [-1.0, -0.4, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_that_of_pillow(name: str, strength: float) -> None:
    pixels = picture()
    found = one(name, strength, pixels).astype(int)
    expected = np.asarray(OF_PILLOW[name](Image.fromarray(pixels), strength)).astype(int)
    if name in WARPS:  # they blend the border with black in different ways
        found, expected = found[2:-2, 2:-2], expected[2:-2, 2:-2]
        assert np.abs(found - expected).mean() < 4
    else:
        assert np.abs(found - expected).max() <= 2
    if strength == 0 and name not in ("invert", "auto_contrast", "equalize"):
        np.testing.assert_array_equal(found, pixels[2:-2, 2:-2] if name in WARPS else pixels)


@pytest.mark.parametrize("name", NAMES)
def test_grey_images_and_flat_ones_stay_whole(name: str) -> None:
    for pixels in (picture(channels=1), np.full((SIDE, SIDE, 1), 255, np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)):
        found = one(name, 0.5, pixels)
        assert found.shape == pixels.shape and found.dtype == np.uint8
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    if name not in ("invert", *WARPS):
        np.testing.assert_array_equal(one(name, 0.0, white), white)


@pytest.mark.parametrize("name", POLICIES)
def test_every_image_draws_its_own_operations_anew_in_every_epoch(name: PolicyName) -> None:
    pixels = torch.from_numpy(picture()).repeat(64, 1, 1, 1)
    indices = list(range(64))
    first, again, other = (Policy(name, 64)(pixels, seed, indices) for seed in (3, 3, 4))
    assert first.shape == pixels.shape and first.dtype == torch.uint8
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first}) > 20


@pytest.mark.parametrize("name", POLICIES)
def test_the_result_does_not_depend_on_how_images_are_put_into_batches(name: PolicyName) -> None:
    pixels = torch.stack([torch.from_numpy(picture(seed=i)) for i in range(12)])
    policy = Policy(name, 100)
    order = [5, 99, 17, 3, 42, 8, 77, 0, 61, 30, 2, 90]
    whole = policy(pixels, 7, order)
    parts = [policy(pixels[part], 7, order[part]) for part in (slice(0, 5), slice(5, 12))]
    assert torch.equal(whole, torch.cat(parts))


def test_randaugment_and_trivialaugment_draw_all_operations_alike() -> None:
    rng = np.random.default_rng(0)
    operations, strengths, ranges = drawn("randaugment", 7000, rng, layers=3, magnitude=12)
    assert operations.shape == strengths.shape == (3, 7000) and ranges is USUAL_RANGES
    assert np.allclose(np.bincount(operations.ravel()) / 21_000, 1 / len(USUAL), atol=0.01)
    assert set(np.unique(strengths)) == {-0.4, 0.4}
    operations, strengths, ranges = drawn("trivialaugment", 7000, rng)
    assert operations.shape == (1, 7000) and ranges is WIDE_RANGES
    assert np.allclose(np.bincount(operations.ravel()) / 7000, 1 / len(USUAL), atol=0.02)
    assert np.allclose(np.unique(np.abs(strengths)), np.arange(31) / 30)


@pytest.mark.parametrize(
    ("name", "first"), [("autoaugment", ("posterize", "rotate")), ("autoaugment_cifar10", ("invert", "contrast"))]
)
def test_autoaugment_draws_sub_policies_with_their_probabilities(name: PolicyName, first: tuple[str, str]) -> None:
    operations, probabilities, bins = autoaugment_tables(name)
    assert operations.shape == probabilities.shape == bins.shape == (2, 25)
    assert tuple(NAMES[number] for number in operations[:, 0]) == first
    assert bins.min() >= 0 and bins.max() <= 9 and probabilities.min() >= 0 and probabilities.max() <= 1
    found = drawn(name, 20_000, np.random.default_rng(0)).operations
    expected = 1 - probabilities.mean(1)  # the tables themselves never name the identity
    assert np.allclose((found == NAMES.index("identity")).mean(1), expected, atol=0.02)


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_the_same_images_get_the_same_changes_from_arrays_and_from_files(tmp_path: Path, kind: str) -> None:
    """And before they are normalised."""
    pixels = np.stack([picture(seed=i) for i in range(12)])
    images = indexed(pixels, tmp_path, kind)
    split = Split(images, "train")
    assert len(split) >= 8
    policy = Policy("trivialaugment", len(split))
    found = list(feed(split, 4, torch.device("cpu"), policy, seeds=[9]))
    plain = list(feed(split, 4, torch.device("cpu"), seeds=[9]))
    scale, offset = (torch.tensor(split.spec[key]).view(-1, 1, 1) for key in ("std", "mean"))
    for number, ((x, y), (before, labels)) in enumerate(zip(found, plain, strict=True)):
        raw = ((before * scale + offset) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        expected = policy(raw, 9, list(range(4 * number, 4 * number + len(y))))
        assert torch.equal(y, labels)
        assert torch.equal(bytes_of(x, scale, offset), expected)
        assert not torch.equal(expected, raw)


def bytes_of(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return ((x * scale + offset) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def indexed(pixels: np.ndarray, work: Path, kind: str) -> Path:
    """An index folder of the images, as files or as an array."""
    for i, image in enumerate([*pixels, picture(seed=20), picture(seed=21)]):
        split, label = ("train" if i < 12 else "test"), ("cat" if i < 6 or i == 12 else "dog")
        file = work / "photos" / split / label / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    images = work / "images"
    images.mkdir()
    index(Data(name=str(work / "photos"), input_size=SIDE, resize="pad"), images)
    if kind == "array":
        split = Split(images, "train")
        dataset: dict[str, Any] = json.loads((images / "dataset.json").read_text())
        np.save(images / "train.images.npy", np.stack([np.asarray(split.image(i)) for i in range(len(split))]))
        (images / "dataset.json").write_text(json.dumps(dataset | {"kind": "array"}))
    return images
