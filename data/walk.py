"""The files and folders in a folder, in the order of their names; links are followed. Only directories are read, never files.

Hidden files and folders, and those that operating systems and archives add, are always left out.
"""

import os
import unicodedata
from collections.abc import Iterator

from data.filenames import printable

# Also suffixes of formats that the installed Pillow may not decode: such images are counted as unreadable.
IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpx",
}  # fmt: skip
FOREIGN = {b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN", b"System Volume Information"}
Identity = tuple[int, int]


def walk(folder: bytes, seen: set[Identity] | None = None) -> Iterator[os.DirEntry[bytes]]:
    """Every file below `folder` in the order of names. Links are followed; every real folder is entered only once, so circular
    links end.

    A link to a folder that was entered before is yielded itself. Folders in `seen` are not entered.
    """
    seen = set() if seen is None else seen
    seen.add(identity(folder))
    for entry in entries_of(folder):
        if is_folder(entry) and identity(entry.path) not in seen:
            yield from walk(entry.path, seen)
        else:
            yield entry


def identity(folder: bytes) -> Identity:
    """The identity of a real folder, the same for all links to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def entries_of(folder: bytes) -> list[os.DirEntry[bytes]]:
    """The entries of `folder` in the order of names, without hidden ones. ValueError if it cannot be listed."""
    return sorted(visible(folder), key=lambda entry: entry.name)


def has_image(folder: bytes) -> bool:
    """Whether one of the entries of `folder` is an image. ValueError if it cannot be listed."""
    return any(is_image(entry) for entry in visible(folder))


def visible(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(b".") and entry.name not in FOREIGN)
    except OSError as error:
        raise ValueError(f"DATA folder {printable(folder)} cannot be listed ({error.strerror}); make it readable") from error


def is_image(entry: os.DirEntry[bytes]) -> bool:
    """By its suffix. A broken link counts as an image that cannot be read. Pipes and devices do not count."""
    if suffix(entry.name) not in IMAGE_SUFFIXES:
        return False
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether it is a folder or a link to a folder. A link to itself is not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def status_of(entry: os.DirEntry[bytes]) -> os.stat_result:
    """The status of the file; of the link if it is broken."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def suffix(name: bytes) -> str:
    return printable(os.path.splitext(name)[1]).lower()


def class_name(folder: bytes) -> str:
    """The class of a folder: its name in composed Unicode, because on a Mac an "é" is stored as an e and an accent."""
    return unicodedata.normalize("NFC", printable(folder))
