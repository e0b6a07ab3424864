"""Test images as they go to a device: the pixels after scaling and cropping, which is the smallest exact form of an input.

The device only scales them to floats, with the two vectors of `scaling`, and needs no Pillow.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from core import hardware
from data import workers
from data.loader import Split
from data.splits import thinned

SIZE = 50  # images in a part


class Pixels(Dataset[Any]):
    """uint8 [N, H, W, C] for a list of indices, in the network's order of colours; or the message of an error."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, indices: list[int]) -> Any:
        try:
            pixels = np.stack([self.split.pixels(i) for i in indices])
        except ValueError as error:
            return str(error)
        bgr = self.split.spec.get("channel_order") == "bgr"
        return (torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1] if bgr else pixels)),)


def scaling(spec: dict[str, Any]) -> tuple[list[float], list[float]]:
    """`scale` and `offset` [C], float32: pixels * scale - offset is what data/preprocess.py `normalise` computes."""
    mean, std = np.asarray(spec["mean"], np.float32), np.asarray(spec["std"], np.float32)
    return (1 / (255 * std)).tolist(), (mean / std).tolist()


def sampled(split: Split, count: int | None) -> np.ndarray:
    """The indices of `count` test images, evenly spaced; None: of all."""
    return thinned(len(split), count)


def parts_of(indices: np.ndarray) -> list[list[int]]:
    return [indices[start : start + SIZE].tolist() for start in range(0, len(indices), SIZE)]


def encoded(split: Split, parts: Sequence[list[int]]) -> Iterator[bytes]:
    """The images of each part as a compressed .npz file with `pixels`. Raises ValueError if an image has changed."""
    folder = split.dataset["kind"] == "folder"
    count = min(len(parts), hardware.cores()) if folder and len(parts) > 1 else 0
    for found in workers.results(Pixels(split), parts, count):
        if isinstance(found, str):
            raise ValueError(found)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, pixels=found[0].numpy())
        yield buffer.getvalue()
