"""Images that are arrays -> batches, cut and flipped all at once on any device; Pillow does them one by one."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from data import preprocess


class Moves:
    """Random shifts and flips, one of each for every image; the same for the same seed.

    most     the largest shift
    shifts   int64 [N, 2], pixels to the right and down
    flips    bool [N], left and right exchanged
    """

    def __init__(self, count: int, shift: int, flip: bool, seed: int, device: torch.device | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.most = shift
        self.shifts = torch.from_numpy(rng.integers(-shift, shift + 1, (count, 2))).to(device)
        self.flips = torch.from_numpy((rng.random(count) < 0.5) & flip).to(device)


def padded(pixels: Tensor, spec: preprocess.Spec, moves: Moves | None, indices: Tensor) -> Tensor:
    """`pixels` uint8 [N, H, W, C] centred on black, each moved by the entry of `moves` at its index, int64 [N]:
    uint8 [N, input_size, input_size, C]. All tensors are on one device.
    """
    height, width = pixels.shape[1:3]
    side, device = spec["input_size"], pixels.device
    window = torch.arange(side, device=device)
    left, top = preprocess.centred(width, side), preprocess.centred(height, side)
    most = 0 if moves is None else moves.most
    # Computed without the pixels' own shifts: to read those from a GPU, the CPU would have to wait for it.
    margin = max(0, most - left, most - top, left + side + most - width, top + side + most - height)
    if moves is None:
        columns, rows = (window + left).expand(len(pixels), side), (window + top).expand(len(pixels), side)
    else:
        shifts, flips = moves.shifts[indices], moves.flips[indices]
        columns = torch.where(flips[:, None], window.flip(0), window) + (shifts[:, :1] + left)
        rows = window + (shifts[:, 1:] + top)
    black = pad(pixels, (0, 0, margin, margin, margin, margin))
    images = torch.arange(len(pixels), device=device)[:, None, None]
    return black[images, rows[:, :, None] + margin, columns[:, None, :] + margin]
