"""Batches of arrays equal what Pillow makes of their images one by one; every image has moves of its own."""

import numpy as np
import pytest
from PIL import Image

from data import preprocess
from data.arrays import Moves, padded


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (40, 36), (27, 41)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("moved", [False, True], ids=["centred", "moved"])
def test_a_batch_equals_the_images_cut_one_by_one(size: tuple[int, int], channels: int, moved: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, *size, channels), dtype=np.uint8)
    spec = {"input_size": 32, "channels": channels, "resize": "pad"}
    moves = Moves(20, 4, True, seed=1) if moved else None
    indices = list(range(7, 19))
    found = padded(pixels, spec, moves, indices)
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
    assert 0.45 < moves.flips.mean() < 0.55
    again, other = Moves(4000, 2, True, seed=3), Moves(4000, 2, True, seed=4)
    np.testing.assert_array_equal(moves.shifts, again.shifts)
    assert (moves.shifts != other.shifts).any() and (moves.flips != other.flips).any()
    assert not Moves(4000, 2, False, seed=3).flips.any()
