"""Training images that are arrays -> batches, cut and flipped all at once; Pillow does them one by one."""

import numpy as np

from data import preprocess


class Moves:
    """Random shifts and flips, one of each for every image; the same for the same seed.

    shifts   int64 [N, 2], pixels to the right and down
    flips    bool [N], left and right exchanged
    """

    def __init__(self, count: int, shift: int, flip: bool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shifts = rng.integers(-shift, shift + 1, (count, 2))
        self.flips = (rng.random(count) < 0.5) & flip


def padded(pixels: np.ndarray, spec: preprocess.Spec, moves: Moves | None, indices: list[int]) -> np.ndarray:
    """`pixels` uint8 [N, H, W, C] centred on black, each moved by the entry of `moves` at its index:
    uint8 [N, input_size, input_size, C].
    """
    count, height, width = pixels.shape[:3]
    side = spec["input_size"]
    shifts = np.zeros((count, 2), np.int64) if moves is None else moves.shifts[indices]
    left = shifts[:, 0] + preprocess.centred(width, side)
    top = shifts[:, 1] + preprocess.centred(height, side)
    columns = left[:, None] + np.arange(side)
    rows = top[:, None] + np.arange(side)
    if moves is not None:
        flipped = moves.flips[indices]
        columns[flipped] = columns[flipped, ::-1]
    margin = max(0, -int(columns.min()), -int(rows.min()), int(columns.max()) + 1 - width, int(rows.max()) + 1 - height)
    black = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return np.asarray(black[np.arange(count)[:, None, None], rows[:, :, None] + margin, columns[:, None, :] + margin])
