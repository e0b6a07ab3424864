"""Folders whose images are in larger files (tar shards, Hugging Face's tables): which files those are, and their splits."""

import os
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from core.text import some
from data.filenames import printable
from data.folder import Found, by_gate
from data.labelled import data_name, split_in
from data.listing import Listing
from data.walk import entries_of, has_image, is_folder

DEEPEST = 2  # folders below DATA
MOST_FOLDERS = 20  # a folder with more of them has the folders of classes


@dataclass
class Images:
    """The images of one split, in the order in which they are added.

    names     where each is: the larger file and the place in it
    places    three numbers for each image, see data/files.py
    labels    the class of each image as text; None: it has none
    classes   all classes in the order of the network's outputs, if the files name them
    left_out  as in data/listing.py
    """

    names: list[bytes] = field(default_factory=list)
    places: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[str | None] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, name: bytes, place: tuple[int, int, int], label: str | None) -> None:
        self.names.append(name)
        self.places.extend(place)
        self.labels.append(label)

    def listing(self, data: str, split: str) -> Listing:
        """Raises ValueError if some images have a class and others have none."""
        places = np.frombuffer(self.places, np.int64).reshape(-1, 3)
        known = {label for label in self.labels if label is not None}
        if not known:
            return Listing(self.names, [-1] * len(self.names), left_out=self.left_out, places=places)
        if None in self.labels:
            first, count = self.labels.index(None), self.labels.count(None)
            raise ValueError(
                f"DATA {data}: {count:,} of {len(self.labels):,} {split} images have no label, such as "
                f"{printable(self.names[first])}; expected a label for every image: add them, or remove these images"
            )
        numbers = not self.classes and all(label.isdecimal() for label in known)
        classes = self.classes or sorted(known, key=int if numbers else os.fsencode)
        number = {name: i for i, name in enumerate(classes)}
        labels = [number[label] for label in self.labels if label is not None]
        return Listing(self.names, labels, classes, self.left_out, numbers=numbers, places=places)


def files_below(root: bytes, suffixes: tuple[str, ...]) -> list[bytes]:
    """The files with one of `suffixes` in `root` and in its folders; none if there are images or folders of classes."""
    files = plain_files(root, DEEPEST) or []
    return [file for file in files if printable(file).lower().endswith(suffixes)]


def plain_files(folder: bytes, depth: int) -> list[bytes] | None:
    """All files in `folder` and in its folders; None if there are images, or more or deeper folders than with larger files."""
    if has_image(folder):
        return None
    entries = entries_of(folder)
    folders = [entry.path for entry in entries if is_folder(entry)]
    if len(folders) > (MOST_FOLDERS if depth else 0):
        return None
    found = [entry.path for entry in entries if os.path.isfile(entry.path)]
    for path in folders:
        inner = plain_files(path, depth - 1)
        if inner is None:
            return None
        found += inner
    return found


def by_split(root: bytes, files: list[bytes]) -> dict[str, list[bytes]]:
    """`files` by the split in their name or in the name of their folder; all are "train" if none names a split.

    Raises ValueError if only some name one.
    """
    found: dict[str | None, list[bytes]] = {}
    for file in files:
        parts = printable(os.path.relpath(file, root)).split("/")
        found.setdefault(next((split for part in reversed(parts) if (split := split_in(part))), None), []).append(file)
    if set(found) == {None}:
        return {"train": files}
    if None in found:
        raise ValueError(
            f"DATA {data_name(root)}: {some([printable(os.path.basename(file)) for file in found[None]], 3)} names no split, "
            "other files do; expected train, val or test in the name of every file, or of its folder"
        )
    return {split: files for split, files in found.items() if split is not None}


def arranged(root: bytes, images: dict[str, Images], larger: list[bytes], kind: str, notes: list[str]) -> Found:
    """The splits of `images`, as folders of images would be used; `kind` names the files in messages."""
    data = data_name(root)
    parts = {split: found.listing(data, split) for split, found in images.items()}
    if empty := [split for split, part in parts.items() if not part.names]:
        raise ValueError(f"DATA {data}: the {kind} of {some(empty)} have no images; remove them, or complete them")
    if not any(part.labelled for part in parts.values()) and len(parts) == 1:
        found = Found({"test": next(iter(parts.values()))}, labelled=False)
    elif not parts.get("train", next(iter(parts.values()))).labelled and not parts.keys() >= {"val", "test"}:
        raise ValueError(f"DATA {data}: the {kind} have no labels for training; expected a class for every image")
    elif parts.keys() == {"train"}:
        found = Found(parts, split_here=True)
    else:
        found = by_gate(root, parts, {split: split.encode() for split in parts}, [])
    found.notes += notes
    found.larger = [os.fsdecode(file) for file in larger]
    return found
