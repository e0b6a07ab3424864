"""A folder of images -> the names and classes of its images. Reads directories only, never a file.

Hidden files and folders, and the copies that macOS puts into archives, are not there as far as we are concerned.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from core.text import some
from data.filenames import printable

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
EXPECTED = (
    "expected train/<class>/* with val/<class>/* (or test/), val/ or test/ alone, "
    "or a folder with unlabelled images directly in it"
)
Layout = Literal["train", "gate", "unlabelled"]


@dataclass
class Listing:
    """Images below one folder: `names` relative to the data set's root, sorted by class, and the class of each.

    `left_out` counts the files that are no images, by suffix; `loose` the images outside of any class folder.
    """

    names: list[bytes] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    loose: int = 0


def layout(root: bytes) -> tuple[Layout, str]:
    """What kind of folder `root` is, and the name of the part that the gate uses ("" for unlabelled images).

    Raises ValueError that says what was found when it is of no known kind.
    """
    entries = entries_of(root)
    folders = [entry.name for entry in entries if is_folder(entry)]
    gate = next((part for part in ("test", "val") if part.encode() in folders), "")
    if b"train" in folders and not gate:
        raise ValueError(f"DATA {printable(root)} has train/ but neither val/ nor test/; {EXPECTED}")
    if gate:
        return ("train" if b"train" in folders else "gate"), gate
    if any(is_image(entry) for entry in entries):
        return "unlabelled", ""
    found = "is empty"
    if entries:
        inside = some([printable(entry.name) + "/" * is_folder(entry) for entry in entries])
        found = f"holds {inside}, but neither images nor val/ or test/"
    raise ValueError(f"DATA {printable(root)} {found}; {EXPECTED}")


def labelled(root: bytes, part: str) -> Listing:
    """The images of `root`/`part`/<class>/, deeper ones too; classes in the order of their names, empty ones too.

    Raises ValueError when there is none.
    """
    found = Listing()
    folders: dict[str, list[bytes]] = {}
    for entry in entries_of(os.path.join(root, part.encode())):
        if is_folder(entry):
            folders.setdefault(class_name(entry.name), []).append(entry.path)
        elif is_image(entry):
            found.loose += 1
        else:
            found.left_out[suffix(entry.name)] += 1
    # By the names on the disk, not their normal form: that is how ImageFolder numbered the classes for the checkpoint.
    found.classes = sorted(folders, key=lambda name: os.path.basename(min(folders[name])))
    for label, name in enumerate(found.classes):
        for folder in folders[name]:
            collect(root, folder, label, found)
    if not found.names:
        loose = f"has {found.loose} images but no class folders" if found.loose else "has no images"
        hint = f"; if they have no classes, pass DATA={printable(root)}/{part}" if found.loose else ""
        raise ValueError(f"DATA {printable(root)}: {part}/ {loose}; {EXPECTED}{hint}")
    return found


def unlabelled(root: bytes) -> Listing:
    """Every image below `root`, with the label -1."""
    found = Listing()
    collect(root, root, -1, found)
    return found


def collect(root: bytes, folder: bytes, label: int, found: Listing) -> None:
    for entry in walk(folder):
        if is_image(entry):
            found.names.append(entry.path[len(os.path.join(root, b"")) :])
            found.labels.append(label)
        else:
            found.left_out[suffix(entry.name)] += 1


def check_classes(data: str, parts: list[Listing]) -> None:
    """ValueError when a class folder is empty, or when the gate has classes that train/ has not."""
    used = set(parts[0].labels)
    if empty := [name for label, name in enumerate(parts[0].classes) if label not in used]:
        raise ValueError(f"DATA {data} has classes without images: {some(empty)}; fill or remove their folders")
    known = set(parts[0].classes)
    if unknown := [name for name in parts[-1].classes if name not in known]:
        raise ValueError(
            f"DATA {data} is gated on classes that train/ has not: {some(unknown)}; expected the same class folders"
        )


def left_out(parts: list[Listing]) -> list[str]:
    """Notes on the files that are not used, and why."""
    others = sum((part.left_out for part in parts), Counter[str]())
    notes = []
    if count := others.total():
        kinds = some([kind or "none" for kind, _ in others.most_common()])
        are, were = ("file is no image by its", "was") if count == 1 else ("files are no images by their", "were")
        notes.append(f"{count:,} {are} suffix and {were} left out ({kinds})")
    if count := sum(part.loose for part in parts):
        lie, were = ("image lies", "was") if count == 1 else ("images lie", "were")
        notes.append(f"{count:,} {lie} outside of the class folders and {were} left out")
    return notes


def walk(folder: bytes, above: tuple[tuple[int, int], ...] = ()) -> Iterator[os.DirEntry[bytes]]:
    """Every file below `folder` in the order of names; links are followed, except to a folder that holds them."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in entries_of(folder):
        if is_folder(entry):
            yield from walk(entry.path, (*above, identity))
        else:
            yield entry


def entries_of(folder: bytes) -> list[os.DirEntry[bytes]]:
    """What is in `folder`, in the order of names, without what is hidden. ValueError when it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(b".") and entry.name != b"__MACOSX"]
    except OSError as error:
        raise ValueError(f"DATA folder {printable(folder)} cannot be listed ({error.strerror}); make it readable") from error
    return sorted(seen, key=lambda entry: entry.name)


def is_image(entry: os.DirEntry[bytes]) -> bool:
    """By its suffix. A link to nowhere counts: it stands for an image that cannot be read. Pipes and devices do not."""
    if suffix(entry.name) not in IMAGE_SUFFIXES:
        return False
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def status_of(entry: os.DirEntry[bytes]) -> os.stat_result:
    """That of the file; of the link where it leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def suffix(name: bytes) -> str:
    return printable(os.path.splitext(name)[1]).lower()


def class_name(folder: bytes) -> str:
    """The class a folder stands for; composed, because an "é" from a Mac is an e and an accent."""
    return unicodedata.normalize("NFC", printable(folder))
