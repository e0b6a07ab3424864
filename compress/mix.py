"""What is done to a normalised batch before a step: smaller images, random erasing, mixup, cutmix. On any device.

All numbers are drawn on the host, so no step waits for a GPU.

random erasing   Zhong et al. 2020 (arXiv:1708.04896); the rectangle becomes 0, which is the mean of the training images
mixup            Zhang et al. 2018 (arXiv:1710.09412)
cutmix           Yun et al. 2019 (arXiv:1905.04899)
smaller images   as in progressive learning, Tan & Le 2021 (arXiv:2104.00298)
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compress.schedule import Schedule

AREA = (0.02, 0.33)  # of an image, that is erased
RATIO = (0.3, 3.3)  # height / width of what is erased
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def changed(schedule: Schedule, classes: int, share: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The batch (x, y) as `schedule` changes it after a `share` of the training.

    x is float32 [N, C, H, W]; y int64 [N], labels, which become float32 [N, `classes`], probabilities, where images are mixed.
    The numbers follow torch's generator of the CPU.
    """
    if not schedule.varied:
        return x, y
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    side = side_at(schedule, share)
    if side and side < x.shape[-1]:
        x = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    if schedule.erasing:
        x = erased(x, schedule.erasing, rng)
    alphas = [(mix, alpha) for mix, alpha in ((mixup, schedule.mixup), (cutmix, schedule.cutmix)) if alpha]
    if alphas:
        y = functional.one_hot(y, classes).float()
        if rng.random() < schedule.mix_probability:
            mix, alpha = alphas[rng.integers(len(alphas))]
            x, y = mix(x, y, float(rng.beta(alpha, alpha)), rng)
    return x, y


def check_sizes(schedule: Schedule, side: int) -> None:
    """ValueError for a size above `side`, that of the images of the training."""
    if schedule.sizes and max(schedule.sizes) > side:
        raise ValueError(
            f"sizes = {list(schedule.sizes)}: the images have {side}x{side} pixels; expected sizes up to {side}, or "
            "a larger data.input_size"
        )


def side_at(schedule: Schedule, share: float) -> int | None:
    """The side in pixels of the training images after a `share` of the training; None: as they are."""
    sizes = schedule.sizes
    return sizes[min(int(share * len(sizes)), len(sizes) - 1)] if sizes else None


def erased(x: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """`x` [N, C, H, W] with a rectangle of zeros in every image, with that `probability`."""
    count, _, height, width = x.shape
    area = rng.uniform(*AREA, count) * height * width * (rng.random(count) < probability)
    ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1]), count))
    heights = np.minimum(np.round((area * ratio) ** 0.5), height)
    widths = np.minimum(np.round((area / ratio) ** 0.5), width)
    top = np.floor(rng.random(count) * (height - heights + 1))
    left = np.floor(rng.random(count) * (width - widths + 1))
    edges = torch.from_numpy(np.stack([top, top + heights, left, left + widths])).to(x.device, torch.float32, non_blocking=True)
    first_row, last_row, first_column, last_column = edges[:, :, None]
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    in_rows = (rows >= first_row) & (rows < last_row)
    in_columns = (columns >= first_column) & (columns < last_column)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return x.mul(~inside[:, None])


def mixup(x: Tensor, y: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Every image and its target, blended with `share` < 1 of its partner's: the partners are the batch in reverse order."""
    return torch.lerp(x, x.flip(0), share), torch.lerp(y, y.flip(0), share)


def cutmix(x: Tensor, y: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Every image with a rectangle of its partner: about a `share` of the area, exactly the part of the target.

    The rectangle may reach beyond the border, where it is cut off. It is the same for all images of the batch.
    """
    height, width = x.shape[-2:]
    rows, columns = (span_of(side, share**0.5, rng) for side in (height, width))
    part = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    mixed = x.clone()
    mixed[:, :, rows, columns] = x.flip(0)[:, :, rows, columns]
    return mixed, torch.lerp(y, y.flip(0), part)


def span_of(side: int, share: float, rng: np.random.Generator) -> slice:
    """A `share` of `side` pixels around a random one, cut off at the borders."""
    length, centre = int(side * share), int(rng.integers(side))
    return slice(max(0, centre - length // 2), min(side, centre + length // 2))
