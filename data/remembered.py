"""A hash of a folder of images that changes with the names, sizes and times of its files.

A set of more than `SMALL` files is remembered in the cache, one line per folder. So an interrupted reading continues, and a
later command reads only those folders again whose own time has changed: files were added, removed or renamed there. Of the
other folders a sample of the files is compared with what is remembered. If one has changed, everything is read again.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.console import progress
from data.walk import entries_of, identity, is_folder, status_of

SMALL = 10_000  # files; of smaller sets all files are compared every time
SAMPLED = 100  # one of so many files of a folder, and at least one
SETTLED = 2 * 10**9  # nanoseconds; the clocks of file systems are coarse, so a folder that has just changed is read again
SHOWN = 1000  # files between two steps of the progress


@dataclass(frozen=True)
class Folder:
    """One folder of DATA as it was read.

    path      relative to DATA; text as by os.fsdecode, like all names here
    state     inode, and the times of its last changes in nanoseconds
    settled   it was not changed shortly before it was read
    digest    of the names, sizes and times of its files, and of the names of its folders
    folders   the names of its folders
    sample    [name, size, time] of some of its files
    """

    path: str
    state: list[int]
    settled: bool
    digest: str
    files: int
    folders: list[str]
    sample: list[list[Any]]


def fingerprint(root: bytes, cache: Path) -> str:
    """A hash of the files below `root`. What is remembered is in a file below `cache`, named by the path of `root`."""
    memory = Memory(cache / "folders" / f"{hashlib.sha256(os.path.realpath(root)).hexdigest()[:16]}.jsonl")
    known = unchanged(root, memory.read())
    if known is None:
        memory.forget()
    digest = hashlib.sha256()
    todo, done, entered = [""], 0, set()
    with progress() as bar:
        task = bar.add_task("read folders", total=1)

        def show(files: int) -> None:
            bar.update(task, description=f"read folders ({memory.files + files:,} files)")

        while todo:
            path = todo.pop()
            folder = os.path.join(root, os.fsencode(path))
            if (real := identity(folder)) not in entered:  # several links may lead to one folder
                entered.add(real)
                found = (known or {}).get(path)
                if found is None:
                    found = read_folder(folder, path, show)
                    memory.add(found)
                digest.update(json.dumps([path, found.digest]).encode())
                todo += [os.path.join(path, name) for name in reversed(found.folders)]
            done += 1
            bar.update(task, completed=done, total=done + len(todo))
    return digest.hexdigest()


def unchanged(root: bytes, known: dict[str, Folder]) -> dict[str, Folder] | None:
    """Those of the folders `known` whose times have not changed; None if a sampled file in one of them has."""
    kept = {}
    for path, folder in known.items():
        place = os.path.join(root, os.fsencode(path))
        if not (folder.settled and state_of(place) == folder.state):
            continue
        if any(file_state(os.path.join(place, os.fsencode(name))) != state for name, *state in folder.sample):
            return None
        kept[path] = folder
    return kept


def read_folder(folder: bytes, path: str, show: Callable[[int], None]) -> Folder:
    """Read the folder: one stat for each file. `show` is called with the number of its files that have been read."""
    state, now = state_of(folder), time.time_ns()
    entries = entries_of(folder)
    folders = [os.fsdecode(entry.name) for entry in entries if is_folder(entry)]
    inner = set(folders)
    digest = hashlib.sha256(json.dumps(folders).encode())
    sample: list[list[Any]] = []
    files = 0
    for entry in entries:
        name = os.fsdecode(entry.name)
        if name in inner:
            continue
        status = status_of(entry)
        digest.update(b"%s\0%d\0%d\n" % (entry.name, status.st_size, status.st_mtime_ns))
        if files % SAMPLED == 0:
            sample.append([name, status.st_size, status.st_mtime_ns])
        files += 1
        if files % SHOWN == 0:
            show(files)
    settled = max(state[1:]) < now - SETTLED
    return Folder(path, state, settled, digest.hexdigest(), files, folders, sample)


def state_of(folder: bytes) -> list[int]:
    """Its inode and the times of its last changes; empty if it is gone."""
    try:
        status = os.stat(folder)
    except OSError:
        return []
    return [status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def file_state(file: bytes) -> list[int]:
    """Its size and the time of its last change, of the link if it is broken; empty if it is gone."""
    for follow in (True, False):
        with contextlib.suppress(OSError):
            status = os.stat(file, follow_symlinks=follow)
            return [status.st_size, status.st_mtime_ns]
    return []


class Memory:
    """The folders that were read, in a file with one line of JSON for each. A later line about the same folder counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[str] = []  # not yet written
        self.files = 0

    def read(self) -> dict[str, Folder]:
        found = {}
        with contextlib.suppress(OSError):
            for line in self.file.read_text(encoding="ascii").splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last line of a run that was killed
                    folder = Folder(**json.loads(line))
                    found[folder.path] = folder
        return found

    def add(self, folder: Folder) -> None:
        self.lines.append(json.dumps(vars(folder)) + "\n")
        self.files += folder.files
        if self.files > SMALL or self.file.exists():
            with contextlib.suppress(OSError):  # where nothing can be written, nothing is remembered
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="ascii") as file:
                    file.write("".join(self.lines))
                self.lines = []

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
