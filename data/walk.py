"""What is in a folder: files and folders in the order of their names, links followed. Reads directories only, never a file.

Hidden files and folders, and what operating systems and archives put among people's files, are left out everywhere.
"""

import os
import unicodedata
from collections.abc import Iterator

from data.filenames import printable

# What people keep as images, whether or not the Pillow here can decode it: what it cannot is counted as unreadable.
IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpx",
}  # fmt: skip
FOREIGN = {b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN", b"System Volume Information"}
Identity = tuple[int, int]


def walk(folder: bytes, seen: set[Identity] | None = None) -> Iterator[os.DirEntry[bytes]]:
    """Every file below `folder` in the order of names. Links are followed; a real folder is entered once, so circles end.

    A link to a folder that is not entered again is yielded itself. `seen` are folders that are not to be entered.
    """
    seen = set() if seen is None else seen
    seen.add(identity(folder))
    for entry in entries_of(folder):
        if is_folder(entry) and identity(entry.path) not in seen:
            yield from walk(entry.path, seen)
        else:
            yield entry


def identity(folder: bytes) -> Identity:
    """What tells one real folder from another."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def entries_of(folder: bytes) -> list[os.DirEntry[bytes]]:
    """What is in `folder`, in the order of names, without what is hidden. ValueError when it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(b".") and entry.name not in FOREIGN]
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
