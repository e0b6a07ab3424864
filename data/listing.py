"""The images below one folder with the classes of its subfolders, and the files that are not used."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from core.text import some
from data.filenames import printable
from data.labels import Labels
from data.walk import class_name, entries_of, identity, is_folder, is_image, suffix, walk


@dataclass
class Listing:
    """Images below one folder.

    names      relative to the data set's root, sorted by class
    labels     the index in `classes` of each image; -1 for unlabelled images
    left_out   the number of files that are no images, by suffix
    loose      images outside of any class folder
    dangling   broken links at a place where a class folder is expected
    table      the table with the labels, if they come from a table
    splits     the split of every image, if the table has it
    numbers    the classes are integers, in a table or in shards
    places     as in data/files.py, if the images are in larger files
    """

    names: list[bytes] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    loose: list[bytes] = field(default_factory=list)
    dangling: list[bytes] = field(default_factory=list)
    table: Labels | None = None
    splits: list[str] = field(default_factory=list)
    numbers: bool = False
    places: np.ndarray | None = None

    @property
    def labelled(self) -> bool:
        return bool(self.classes)


def listing(root: bytes, folder: bytes) -> Listing:
    """The images of `root`/`folder`/<class>/ and of its subfolders; classes in the order of their names, also empty ones."""
    found = Listing()
    place = os.path.join(root, folder) if folder else root
    folders: dict[str, list[bytes]] = {}
    for entry in entries_of(place):
        if is_folder(entry):
            folders.setdefault(class_name(entry.name), []).append(entry.path)
        elif is_image(entry):
            found.loose.append(relative(root, entry.path))
        elif entry.is_symlink() and not os.path.exists(entry.path) and not suffix(entry.name):
            found.dangling.append(relative(root, entry.path))
        else:
            found.left_out[suffix(entry.name)] += 1
    # Sorted by the names on disk, not by their normal form, because ImageFolder numbered the classes of the checkpoint so.
    found.classes = sorted(folders, key=lambda name: os.path.basename(min(folders[name])))
    above = {identity(root), identity(place)}
    for label, name in enumerate(found.classes):
        seen = set(above)
        for path in folders[name]:
            if identity(path) not in seen:
                collect(root, path, label, found, seen)
    if not found.names and found.loose:
        found.classes = []
    return found


def relative(root: bytes, path: bytes) -> bytes:
    return path[len(os.path.join(root, b"")) :]


def collect(root: bytes, folder: bytes, label: int, found: Listing, seen: set[tuple[int, int]]) -> None:
    for entry in walk(folder, seen):
        if is_image(entry):
            found.names.append(relative(root, entry.path))
            found.labels.append(label)
        elif not is_folder(entry):
            found.left_out[suffix(entry.name)] += 1


def everything(root: bytes, part: Listing) -> Listing:
    """All images below `root`, without classes."""
    found = Listing(dangling=part.dangling)
    collect(root, root, -1, found, set())
    return found


def unlabelled(part: Listing) -> Listing:
    """The images of `part`, which has no class folders, without classes."""
    return Listing(part.loose, [-1] * len(part.loose), left_out=part.left_out, dangling=part.dangling, places=part.places)


def divided(part: Listing, tested: np.ndarray) -> dict[str, Listing]:
    """`part` in two: the test images are those where `tested` (bool [N]) is true, the others are for training."""
    train = chosen_of(part, ~tested)
    train.left_out, train.loose, train.dangling = part.left_out, part.loose, part.dangling
    return {"train": train, "test": chosen_of(part, tested)}


def chosen_of(part: Listing, chosen: np.ndarray) -> Listing:
    """The images of `part` where `chosen` (bool [N]) is true."""
    indices = np.flatnonzero(chosen).tolist()
    return Listing(
        [part.names[i] for i in indices],
        [part.labels[i] for i in indices],
        part.classes,
        table=part.table,
        numbers=part.numbers,
        places=None if part.places is None else part.places[indices],
    )


def check_classes(data: str, parts: list[Listing]) -> None:
    """ValueError if a class folder of the first part is empty, or if another part has classes that the first does not have."""
    used = set(parts[0].labels)
    stated = parts[0].table is not None or parts[0].places is not None  # these may come with a list of more classes
    if empty := [name for label, name in enumerate(parts[0].classes) if label not in used and not stated]:
        raise ValueError(f"DATA {data} has classes without images: {some(empty)}; fill or remove their folders")
    known = set(parts[0].classes)
    others = dict.fromkeys(name for part in parts[1:] for name in part.classes)
    if unknown := [name for name in others if name not in known]:
        raise ValueError(
            f"DATA {data} has test images of classes that train/ does not have: {some(unknown)}; expected the same classes"
        )


def left_out(parts: list[Listing]) -> list[str]:
    """Notes on the files that are not used, and why."""
    others = sum((part.left_out for part in parts), Counter[str]())
    notes = []
    if count := others.total():
        kinds = some([kind or "none" for kind, _ in others.most_common()])
        have, were = ("file has a suffix that is not", "was") if count == 1 else ("files have suffixes that are not", "were")
        notes.append(f"{count:,} {have} of images and {were} left out ({kinds})")
    if loose := [name for part in parts for name in part.loose]:
        be, were = ("image is", "was") if len(loose) == 1 else ("images are", "were")
        notes.append(f"{len(loose):,} {be} outside of the class folders and {were} left out ({examples(loose)})")
    if dangling := [name for part in parts for name in part.dangling]:
        be, were = ("link is broken", "was") if len(dangling) == 1 else ("links are broken", "were")
        notes.append(f"{len(dangling):,} {be} and {were} left out ({examples(dangling)})")
    return notes


def examples(names: Sequence[bytes]) -> str:
    """The first three of `names`, printable."""
    return some([printable(name) for name in names[:4]], 3)
