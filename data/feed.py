"""Splits -> batches on the device that trains: bytes travel there, and are moved, flipped and normalised there."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import preprocess
from data.arrays import padded
from data.loader import Batch, Reading, Split, raw_batches
from data.policy import Policy

SHARE = 0.25  # of a GPU's memory, at most, for a split that lives there


def feed(split: Split, batch_size: int, device: torch.device, policy: Policy | None = None, **reading: Any) -> Iterator[Batch]:
    """Batches of (float32 [N, C, H, W] in channels_last, int64 [N]) on `device`. `reading` as in `data.loader.Reading`.

    `policy` changes the pixels of each batch before they are normalised.

    An array that fits into a GPU stays there, so a batch costs its CPU only the list of indices. Files are decoded in worker
    processes. Raises ValueError if a file has changed or a worker process was killed.
    """
    wanted = Reading(split, batch_size, **reading)
    normalise = normaliser(split.spec, device)
    found = resident_batches(wanted, device) if lives_on(split, device) else moved_batches(wanted, device)
    for (seed, indices), (pixels, labels) in zip(wanted, found, strict=True):
        yield normalise(policy(pixels, seed, indices) if policy else pixels), labels


def normaliser(spec: preprocess.Spec, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function uint8 [N, H, W, C] -> float32 [N, C, H, W] in channels_last: the same numbers as `preprocess.normalise`."""
    mean, std = (np.asarray(spec[name], np.float32) for name in ("mean", "std"))
    scale, offset = (torch.from_numpy(value).to(device) for value in (1 / (255 * std), mean / std))

    def normalise(pixels: Tensor) -> Tensor:
        if spec.get("channel_order") == "bgr":
            pixels = pixels.flip(-1)
        return pixels.float().mul_(scale).sub_(offset).permute(0, 3, 1, 2)

    return normalise


def moved_batches(reading: Reading, device: torch.device) -> Iterator[Batch]:
    """`raw_batches`, copied to `device`; to a GPU while it computes."""
    for batch in raw_batches(reading):
        pixels, labels = (part.pin_memory() for part in batch) if device.type == "cuda" else batch
        yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def lives_on(split: Split, device: torch.device) -> bool:
    """Whether the images of `split` are one array that fits into the memory of the GPU `device`."""
    if device.type != "cuda" or not split.in_one_array or not split.decode:
        return False
    return bool(split.array.nbytes <= SHARE * torch.cuda.get_device_properties(device).total_memory)


def resident_batches(reading: Reading, device: torch.device) -> Iterator[Batch]:
    """As `raw_batches`, from a copy of all images on `device`."""
    split = reading.split
    images, labels = on_device(split.file, device), torch.from_numpy(split.labels).to(device)
    seed, moves = None, None
    for wanted, indices in reading:
        if wanted != seed:
            seed, moves = wanted, split.seeded(wanted).moves_on(device)
        where = torch.tensor(indices)
        where = (where.pin_memory() if device.type == "cuda" else where).to(device, non_blocking=True)
        yield padded(images[where], split.spec, moves, where), labels[where]


@lru_cache(maxsize=4)
def on_device(file: Path, device: torch.device) -> Tensor:
    """The array in `file` on `device`: uint8 [N, H, W, C]. The last few stay there."""
    return torch.from_numpy(np.load(file)).to(device)
