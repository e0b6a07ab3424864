"""Splits -> batches of normalised tensors, augmented for training; the same order for the same seed and epoch."""

import copy
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from core import ranks
from data import preprocess, workers
from data.arrays import Moves, padded
from data.augment import Augment, augmented, min_area_of
from data.filenames import printable
from data.files import Files
from data.readable import TOLERATED, reason

Batch = tuple[Tensor, Tensor]
FEWEST = 10  # unreadable images that are no reason to stop, where not all were checked


class Split(Dataset[Batch]):
    """One split of an `index` folder; `__getitems__` returns one normalised batch for a list of indices."""

    def __init__(self, images: Path, name: str, augment: Augment | None = None, seed: int = 0) -> None:
        self.dataset: dict[str, Any] = json.loads((images / "dataset.json").read_text())
        self.spec: preprocess.Spec = self.dataset["preprocess"]
        # Mapped, not read. Copy-on-write, because torch warns of arrays that cannot be written to.
        self.labels: np.ndarray = np.asarray(np.load(images / f"{name}.labels.npy", mmap_mode="c"))
        self.split, self.augment, self.seed = name, augment, seed
        self.decode = True  # without, batches have labels and no pixels
        self.unchecked = name == "train" and self.dataset.get("unchecked", 0) > 0
        self.read, self.failed = 0, 0  # images that were not checked before
        if self.dataset["kind"] == "array":
            self.file = images / f"{name}.images.npy"
            self.array = np.load(self.file, mmap_mode="r")
            self.at_once = self.spec["resize"] == "pad" and self.array.shape[-1] == self.spec["channels"]
            self.moves = self.moves_on(torch.device("cpu"))
        else:
            self.files = Files.read(images, name, self.dataset)
            self.names = self.files.names

    def __len__(self) -> int:
        return len(self.labels)

    def seeded(self, seed: int) -> "Split":
        """This split with the moves and crops of another seed."""
        other = copy.copy(self)
        other.seed = seed
        if self.in_one_array:
            other.moves = other.moves_on(torch.device("cpu"))
        return other

    def moves_on(self, device: torch.device) -> Moves | None:
        """The moves of all images, as tensors on `device`."""
        return Moves(len(self), self.augment.shift, self.augment.flip, self.seed, device) if self.augment else None

    @property
    def in_one_array(self) -> bool:
        """Whether the images are one array that is cut without Pillow."""
        return bool(self.dataset["kind"] == "array" and self.at_once)

    def name(self, i: int) -> str:
        """The name of image `i` in messages: "val/cat/7.jpg" in a folder, "test #7" in a named set."""
        return f"{self.split} #{i}" if self.dataset["kind"] == "array" else printable(self.names[i])

    @property
    def fixed(self) -> bool:
        """Whether an image is the same in every epoch."""
        if self.augment is None:
            return True
        cropped = min_area_of(self.spec, self.augment) is not None
        return not (cropped or self.augment.flip or self.augment.shift)

    def image(self, i: int) -> Image.Image:
        """Image `i` before preprocessing, in the network's colour mode.

        Raises ValueError when its file cannot be read any more.
        """
        if self.dataset["kind"] == "array":
            pixels = self.array[i]
            return Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).convert(preprocess.mode(self.spec))
        try:
            return preprocess.load(self.files[i], self.spec)
        except OSError as error:
            raise self.changed(i, error) from error

    def readable(self, i: int) -> tuple[int, Image.Image]:
        """Image `i` and its index. If not all images were checked and it cannot be read, the next one that can be.

        Raises ValueError like `image`; if not all were checked, when more than `TOLERATED` of the images cannot be read.
        """
        self.read += 1
        while True:
            try:
                return i, self.image(i)
            except ValueError as error:
                self.failed += 1
                if not self.unchecked or self.failed > max(FEWEST, TOLERATED * self.read):
                    raise
                assert isinstance(error.__cause__, OSError)
                why = reason(error.__cause__, self.files, i)
                workers.say_once(f"· {self.name(i)} cannot be read ({why}); the next image is used in its place")
                i = (i + 1) % len(self)

    def encoded(self, i: int) -> bytes:
        """Image `i` as a PNG, which is lossless: the pixels of `image` and nothing else, so no EXIF, no comment, no name.

        Raises ValueError like `image`.
        """
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self.image(i))).save(buffer, "PNG")  # a new image: `save` would copy the metadata
        return buffer.getvalue()

    def original(self, i: int) -> bytes:
        """The user's own file of image `i`, byte for byte, with its metadata; of an array a PNG.

        Raises ValueError like `image`.
        """
        if self.dataset["kind"] == "array":
            return self.encoded(i)
        try:
            return self.files.content(i)
        except OSError as error:
            raise self.changed(i, error) from error

    def changed(self, i: int, error: OSError) -> ValueError:
        why = reason(error, self.files, i)
        return ValueError(
            f"{self.name(i)} of DATA {self.dataset['name']} cannot be read ({why}): it has changed since "
            "it was indexed; restore it, or run the same command again to index the folder anew"
        )

    def pixels(self, i: int) -> np.ndarray:
        return self.fitted(i, self.image(i))

    def fitted(self, i: int, image: Image.Image) -> np.ndarray:
        """`image`, which is image `i`, as the network gets it before normalisation: uint8 [input_size, input_size, C]."""
        if self.augment is None:
            return preprocess.pixels(preprocess.fit(image, self.spec))
        return augmented(image, self.spec, self.augment, np.random.default_rng((self.seed, i)))

    def __getitems__(self, indices: list[int]) -> Batch:
        pixels, labels = self.raw(indices)
        return torch.from_numpy(preprocess.normalise(pixels.numpy(), self.spec)), labels

    def raw(self, indices: list[int]) -> Batch:
        """As `__getitems__`, but with pixels that are not normalised: uint8 [N, H, W, C], a quarter of the memory."""
        labels = torch.from_numpy(self.labels[indices])
        if not self.decode:
            return torch.empty(len(indices), 1, 1, self.spec["channels"], dtype=torch.uint8), labels
        if self.in_one_array:
            return padded(torch.from_numpy(self.array[indices]), self.spec, self.moves, torch.tensor(indices)), labels
        shown = [(i, self.fitted(i, image)) for i, image in map(self.readable, indices)]
        labels = torch.from_numpy(self.labels[[i for i, _ in shown]])
        return torch.from_numpy(np.stack([pixels for _, pixels in shown])), labels


class RawOrError(Dataset[Batch | str]):
    """A split that returns batches as they are before normalisation, for a (seed, indices), or the message of an error.

    If it raised the error, torch would print a traceback of many lines.
    """

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, wanted: tuple[int, list[int]]) -> Batch | str:
        seed, indices = wanted
        if seed != self.split.seed:
            self.split = self.split.seeded(seed)
        try:
            return self.split.raw(indices)
        except ValueError as error:
            return str(error)


class Groups:
    """`order` in pieces of `size`, made one at a time; with `shared`, the part of this rank of every piece."""

    def __init__(self, order: np.ndarray, size: int, shared: bool = False) -> None:
        self.order, self.size, self.shared = order, size, shared

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for i in range(len(self)):
            piece: list[int] = self.order[i * self.size : (i + 1) * self.size].tolist()
            yield ranks.shard(piece) if self.shared else piece


class Reading:
    """Which images `batches` and `feed` read, one batch at a time: (seed, indices).

    With `shuffle`, an incomplete last batch is left out, because batch norm needs full batches. `limit` stops after so many
    images. Where several ranks run this, each gets all batches; with `divided` batches of its part of the images, or its part
    of every batch. `seeds`: one pass over the images for each, such as the epochs of a training; default the split's own. Of
    the first pass, the first `after` batches are left out.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle: bool = False,
        limit: int | None = None,
        divided: Literal["images", "batches"] | None = None,
        seeds: Sequence[int] | None = None,
        after: int = 0,
    ) -> None:
        self.split, self.batch_size, self.shuffle, self.limit, self.divided = split, batch_size, shuffle, limit, divided
        self.seeds = [split.seed] if seeds is None else seeds
        self.after = after

    def groups(self, seed: int) -> Groups:
        order = order_of(self.split, self.batch_size, shuffle=self.shuffle, limit=self.limit, seed=seed)
        own = ranks.shard(order) if self.divided == "images" else order
        return Groups(own, self.batch_size, shared=self.divided == "batches")

    def __len__(self) -> int:
        return len(self.groups(self.split.seed)) * len(self.seeds) - self.after

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for number, seed in enumerate(self.seeds):
            for indices in islice(self.groups(seed), 0 if number else self.after, None):
                yield seed, indices


def order_of(
    split: Split, batch_size: int, *, shuffle: bool = False, limit: int | None = None, seed: int | None = None
) -> np.ndarray:
    """The indices of the images that `batches` reads, in its order; `seed` in place of the split's own."""
    rng = np.random.default_rng(split.seed if seed is None else seed)
    order = rng.permutation(len(split)) if shuffle else np.arange(len(split))
    order = order[:limit]
    return order[: len(order) // batch_size * batch_size] if shuffle and len(order) > batch_size else order


def batches(split: Split, batch_size: int, **reading: Any) -> Iterator[Batch]:
    """Batches of (float32 [N, C, H, W], int64 [N]) on the CPU. `reading` as in `Reading`.

    Raises ValueError if a file has changed or a worker process was killed.
    """
    for pixels, labels in raw_batches(Reading(split, batch_size, **reading)):
        yield torch.from_numpy(preprocess.normalise(pixels.numpy(), split.spec)), labels


def raw_batches(reading: Reading) -> Iterator[Batch]:
    """Batches of (uint8 [N, H, W, C], int64 [N]): pixels before normalisation.

    Files are decoded in worker processes, which live as long as all passes; arrays, and a single batch, are not faster with
    them. Raises ValueError as `batches` does.
    """
    folder = reading.split.dataset["kind"] == "folder" and reading.split.decode
    count = workers.wanted(len(reading)) if folder else 0
    for batch in workers.results(RawOrError(reading.split), reading, count):
        if isinstance(batch, str):
            raise ValueError(batch)
        yield batch
