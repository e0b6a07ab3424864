"""Batches of arrays equal what Pillow makes of their images one by one; every image has moves of its own."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data import preprocess
from data.arrays import Moves, padded
from data.augment import Augment, augmented
from data.loader import Split
from tests.conftest import Small


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (40, 36), (27, 41)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("moved", [False, True], ids=["centred", "moved"])
def test_a_batch_equals_the_images_cut_one_by_one(size: tuple[int, int], channels: int, moved: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, *size, channels), dtype=np.uint8)
    spec = {"input_size": 32, "channels": channels, "resize": "pad"}
    moves = Moves(20, 4, True, 1) if moved else None
    indices = list(range(7, 19))
    found = padded(torch.from_numpy(pixels), spec, moves, torch.tensor(indices)).numpy()
    assert found.shape == (12, 32, 32, channels)
    for i, (one, image) in enumerate(zip(found, pixels, strict=True)):
        x, y = moves.shifts[indices[i]].tolist() if moves else (0, 0)
        left, top = preprocess.centred(size[1], 32) + x, preprocess.centred(size[0], 32) + y
        whole = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        expected = preprocess.pixels(whole.crop((left, top, left + 32, top + 32)))
        flipped = moves is not None and moves.flips[indices[i]]
        np.testing.assert_array_equal(one, expected[:, ::-1] if flipped else expected)


def test_moves_cover_every_shift_and_both_sides_and_depend_on_the_seed() -> None:
    moves = Moves(4000, 2, True, seed=3)
    assert set(moves.shifts.ravel().tolist()) == {-2, -1, 0, 1, 2}
    assert 0.45 < moves.flips.float().mean() < 0.55
    again, other = Moves(4000, 2, True, seed=3), Moves(4000, 2, True, seed=4)
    np.testing.assert_array_equal(moves.shifts, again.shifts)
    assert (moves.shifts != other.shifts).any() and (moves.flips != other.flips).any()
    assert not Moves(4000, 2, False, seed=3).flips.any()


@pytest.mark.parametrize("resize", [{"resize": "squash"}, {"resize": "shorter", "resize_size": 36}])
def test_scaled_images_without_random_crops_are_only_shifted(resize: dict[str, Any]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(1, 256, (60, 50, 3), dtype=np.uint8))
    spec = {"input_size": 32, "channels": 3, "interpolation": "bilinear", **resize}
    fitted = np.pad(preprocess.pixels(preprocess.fit(image, spec)), ((4, 4), (4, 4), (0, 0)))
    moved = [fitted[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    seen = set()
    for seed in range(20):
        found = augmented(image, spec, Augment(flip=False, shift=4, min_area=None), np.random.default_rng(seed))
        (place,) = [i for i, one in enumerate(moved) if (one == found).all()]
        seen.add(place)
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("resize", "augment", "fixed"),
    [
        ("pad", Augment(flip=False, shift=0), True),
        ("squash", Augment(flip=False, shift=0), False),
        ("squash", Augment(flip=False, shift=0, min_area=None), True),
        ("squash", Augment(flip=False, shift=1, min_area=None), False),
        ("pad", Augment(flip=True, shift=0), False),
        ("squash", None, True),
    ],
)
def test_images_are_fixed_where_nothing_moves_them(resize: str, augment: Augment | None, fixed: bool, small: Small) -> None:
    split = Split(small.images, "train", augment)
    split.spec = {**split.spec, "resize": resize}
    assert split.fixed is fixed
