"""The file names of a split, byte for byte as on disk, in two memory-mapped arrays: memory does not grow with the images.

A name is bytes, relative to the data set's folder. It may contain newlines and need not be UTF-8.
"""

import unicodedata
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

BREAKING = ("Cc", "Zl", "Zp")  # Unicode categories: control characters and line breaks


class Names:
    """Names by index. `blob` (uint8) has all names, one after another; name i is blob[ends[i] : ends[i + 1]]."""

    def __init__(self, blob: np.ndarray, ends: np.ndarray) -> None:
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "Names":
        blob, ends = bytearray(), array("q", [0])
        for name in names:
            blob += name
            ends.append(len(blob))
        return cls(np.frombuffer(blob, np.uint8), np.frombuffer(ends, np.int64))

    @classmethod
    def read(cls, folder: Path, split: str) -> "Names":
        """The names that `save` wrote into `folder`."""
        blob, ends = (np.load(folder / f"{split}.{part}.npy", mmap_mode="r") for part in ("names", "ends"))
        return cls(blob, ends)

    def save(self, folder: Path, split: str) -> None:
        np.save(folder / f"{split}.names.npy", self.blob)
        np.save(folder / f"{split}.ends.npy", self.ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> bytes:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.blob[self.ends[i] : self.ends[i + 1]].tobytes()


def printable(name: bytes) -> str:
    """`name` as one line of text: control characters, line breaks and invalid UTF-8 become escapes."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in BREAKING else c for c in text)
