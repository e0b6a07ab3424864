"""The encoded images of a split: files of their own below DATA, or parts of larger files (shards)."""

import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.filenames import Names

Source = str | io.BytesIO


class Files:
    """Encoded images by index.

    names    relative to `root`; of an image in a larger file: where it is in that file
    larger   the larger files
    places   int64 [N, 3]: for each image the index of its larger file, its first byte there, its number of bytes; None where
             every image is a file of its own
    """

    def __init__(self, root: str, names: Names, larger: Sequence[str] = (), places: np.ndarray | None = None) -> None:
        self.root, self.names, self.larger, self.places = root, names, larger, places

    @classmethod
    def read(cls, images: Path, split: str, dataset: dict[str, Any]) -> "Files":
        """The files of a split of the index folder `images`."""
        places = np.load(images / f"{split}.places.npy", mmap_mode="r") if dataset.get("larger") else None
        return cls(dataset["root"], Names.read(images, split), dataset.get("larger", ()), places)

    def save(self, images: Path, split: str) -> None:
        self.names.save(images, split)
        if self.places is not None:
            np.save(images / f"{split}.places.npy", self.places)

    def chosen(self, indices: np.ndarray) -> "Files":
        names = Names.of(self.names[i] for i in indices)
        return Files(self.root, names, self.larger, None if self.places is None else self.places[indices])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Source:
        """A path, or the bytes of an image in a larger file. Raises OSError if these cannot be read."""
        if self.places is None:
            return os.path.join(self.root, os.fsdecode(self.names[i]))
        number, start, size = self.places[i].tolist()
        with open(self.larger[number], "rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise OSError(errno.EIO, "the file ends before the image does")
        return io.BytesIO(content)

    def content(self, i: int) -> bytes:
        """The image as it is stored. Raises OSError if it cannot be read."""
        source = self[i]
        if isinstance(source, io.BytesIO):
            return source.getvalue()
        with open(source, "rb") as file:
            return file.read()
