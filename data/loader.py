"""Splits -> batches of normalised tensors, augmented for training; the same order for the same seed and epoch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data import preprocess
from pipeline import hardware
from pipeline.config import Config

Batch = tuple[Tensor, Tensor]


class Augment(Config):
    """Training-time augmentation. `shift` (pixels) is for unscaled sets, `min_area` (share of the image) for folders."""

    flip: bool = True
    shift: int = 2
    min_area: float = 0.35


class Split(Dataset[Batch]):
    """One split of an `images` artifact; asked for a list of indices it answers with one normalised batch."""

    def __init__(self, images: Path, name: str, augment: Augment | None = None, seed: int = 0) -> None:
        self.dataset: dict[str, Any] = json.loads((images / "dataset.json").read_text())
        self.spec: preprocess.Spec = self.dataset["preprocess"]
        self.labels: np.ndarray = np.load(images / f"{name}.labels.npy")
        self.augment, self.seed = augment, seed
        if self.dataset["kind"] == "array":
            self.array = np.load(images / f"{name}.images.npy", mmap_mode="r")
        else:
            self.files = (images / f"{name}.files.txt").read_text().splitlines()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fixed(self) -> bool:
        """Whether an image looks the same every time it is asked for, in every epoch."""
        if self.augment is None:
            return True
        return self.spec["resize"] == "pad" and not self.augment.flip and self.augment.shift == 0

    def image(self, i: int) -> Image.Image:
        """Image `i` before preprocessing, in the network's colour mode."""
        if self.dataset["kind"] == "array":
            pixels = self.array[i]
            return Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)
        return preprocess.load(Path(self.dataset["root"]) / self.files[i], self.spec)

    def pixels(self, i: int) -> np.ndarray:
        image = self.image(i)
        if self.augment is None:
            return preprocess.pixels(preprocess.fit(image, self.spec))
        return augmented(image, self.spec, self.augment, np.random.default_rng((self.seed, i)))

    def __getitems__(self, indices: list[int]) -> Batch:
        batch = preprocess.normalise(np.stack([self.pixels(i) for i in indices]), self.spec)
        return torch.from_numpy(batch), torch.from_numpy(self.labels[indices])


def augmented(image: Image.Image, spec: preprocess.Spec, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A random crop and flip of `image`: uint8 [input_size, input_size, C]."""
    side = spec["input_size"]
    if spec["resize"] == "shorter":
        image = random_resized_crop(image, spec, augment.min_area, rng)
    else:
        x, y = rng.integers(-augment.shift, augment.shift + 1, 2)
        left, top = (image.width - side) // 2 + int(x), (image.height - side) // 2 + int(y)
        image = image.crop((left, top, left + side, top + side))
    pixels = preprocess.pixels(image)
    return pixels[:, ::-1] if augment.flip and rng.random() < 0.5 else pixels


def random_resized_crop(image: Image.Image, spec: preprocess.Spec, min_area: float, rng: np.random.Generator) -> Image.Image:
    """Inception-style crop: an area of `min_area` … 1 and a ratio of 3/4 … 4/3, scaled to the input size."""
    area = image.width * image.height * rng.uniform(min_area, 1.0)
    ratio = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    width = min(image.width, max(1, round((area * ratio) ** 0.5)))
    height = min(image.height, max(1, round((area / ratio) ** 0.5)))
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    side, how = spec["input_size"], getattr(Image.Resampling, spec["interpolation"].upper())
    return image.resize((side, side), how, box=(left, top, left + width, top + height))


def _identity(batch: Any) -> Any:
    return batch


def batches(split: Split, batch_size: int, *, shuffle: bool = False, limit: int | None = None) -> Iterator[Batch]:
    """Batches of (float32 [N, C, H, W], int64 [N]).

    Shuffled batches leave out the last incomplete one (batch norm dislikes it); `limit` stops after that many images.
    Files are decoded in worker processes; arrays are fast enough without.
    """
    order = np.random.default_rng(split.seed).permutation(len(split)) if shuffle else np.arange(len(split))
    order = order[:limit]
    groups = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    if shuffle and len(groups) > 1 and len(groups[-1]) < batch_size:
        groups.pop()
    folder = split.dataset["kind"] == "folder"
    workers = min(len(groups), hardware.cores()) if folder else 0
    yield from DataLoader(split, batch_sampler=groups, num_workers=workers, collate_fn=_identity)
