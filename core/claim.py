"""A folder that one process owns at a time, also where several machines share the file system (NFS).

Two processes cannot both make the folder (mkdir): the one that succeeds owns it. Locks of files (flock) are not used, because
not every NFS has them. In the folder:

    <name of the owner>.owner   the heartbeat: a number that the owner counts up
    <token of the owner>/       the files that it writes

An owner that ends before its work is done leaves its files, and its mark is then called `.left`. A dead owner cannot do this.
It is dead if its process does not exist any more on this machine, or if its heartbeat has not changed for `DEAD` seconds by the
clock of the process that waits. The next owner renames the mark, which only one process can do, and moves the files. An owner
that was only thought dead then finds its files gone, and cannot finish: nothing is written twice.
"""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.console import console
from core.owner import Owner

BEAT = 10.0  # seconds between two heartbeats
DEAD = 120.0  # seconds without one
POLL = (0.02, 1.0)  # seconds between two looks at the folder of another owner: at first, and at most
OWNED, LEFT = ".owner", ".left"


@dataclass
class Claim:
    """A folder of this process. `files` is where it writes."""

    folder: Path
    owner: Owner = field(default_factory=lambda: Owner.here())
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def files(self) -> Path:
        return self.folder / self.owner.token

    @property
    def mark(self) -> Path:
        return self.folder / (self.owner.name + OWNED)

    @property
    def lost(self) -> bool:
        """Whether another process has taken the folder over, because it did not see the heartbeat."""
        return not self.mark.exists()

    def make(self) -> bool:
        """Make the folder; False if it exists. Raises FileNotFoundError if the folder above it does not."""
        try:
            self.folder.mkdir()
        except FileExistsError:
            return False
        try:
            self.mark.write_text(f"{0:010}")
            self.files.mkdir()
        except FileNotFoundError:  # another process took it for one without an owner
            return False
        return True

    def take_over(self, mark: Path) -> bool:
        """Take the folder over from the owner with that `mark`; False if another process was quicker."""
        try:
            mark.rename(self.mark)
            for files in filter(Path.is_dir, self.folder.iterdir()):
                with suppress(FileNotFoundError):  # an owner that was alive has just finished
                    files.rename(self.files)
                    break
            self.files.mkdir(exist_ok=True)
        except FileNotFoundError:
            return False
        return True

    def beat(self) -> None:
        """Count up until the claim ends or is lost."""
        number = 0
        while not self.ended.wait(BEAT):
            number += 1
            try:
                with self.mark.open("r+") as file:
                    file.write(f"{number:010}")
            except FileNotFoundError:
                return
            except OSError:
                continue  # the server may come back before the heartbeat is missed

    def end(self, finished: bool) -> None:
        """Give the folder back: remove it, or leave it to the next owner."""
        self.ended.set()
        if self.lost:
            return
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            with suppress(OSError):
                self.mark.rename(self.mark.with_suffix(LEFT))


@contextmanager
def claimed(folder: Path, done: Callable[[], bool], busy: Callable[[Owner], None], keep: bool = True) -> Iterator[Claim | None]:
    """The `folder` as a claim of this process: wait while another process owns it. None if `done()` becomes true meanwhile.

    `busy` is called once, with the first other owner that lives. `keep`: after an error inside, the files stay for the next
    owner.
    """
    claim = waited(folder, done, busy)
    if claim is None:
        yield None
        return
    finished = False
    threading.Thread(target=claim.beat, daemon=True).start()
    try:
        if done():  # just now, by the owner before this one
            finished = True
            yield None
        else:
            yield claim
            finished = True
    finally:
        claim.end(finished or not keep)


def waited(folder: Path, done: Callable[[], bool], busy: Callable[[Owner], None]) -> Claim | None:
    claim, watch = Claim(folder), Watch()
    pause, said = POLL[0], ""
    while not done():
        if claim.make():
            return claim
        mark = mark_of(folder)
        if watch.dead(mark):
            if mark is None:
                remove(folder)
            elif claim.take_over(mark):
                return claim
            continue
        if mark is not None and watch.alive and said != "busy":
            busy(Owner.named(mark.stem))
            said = "busy"
        elif mark is not None and not said:
            said = f"waiting for a heartbeat of {Owner.named(mark.stem)}, at most {DEAD:.0f} s"
            console.print(said, style="dim", markup=False)
        time.sleep(pause)
        pause = min(2 * pause, POLL[1])
    return None


def remove_left(folder: Path) -> None:
    """Remove the `folder` of work that is done, if its owner died just before it did so."""
    if folder.exists() and ((mark := mark_of(folder)) is None or Watch().dead(mark)):
        remove(folder)


def remove(folder: Path) -> None:
    """Remove `folder`, which has another name meanwhile: its own is free at once."""
    aside = folder.with_name(f"{folder.stem}.{uuid.uuid4().hex[:12]}{folder.suffix}")
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def mark_of(folder: Path) -> Path | None:
    """The mark in `folder`; None where there is none (yet)."""
    try:
        return next((path for path in folder.iterdir() if path.suffix in (OWNED, LEFT)), None)
    except FileNotFoundError:
        return None


@dataclass
class Watch:
    """What a process that waits has seen of the owner. `alive`: that it lives."""

    seen: tuple[str, str] = ("", "")
    since: float = field(default_factory=time.monotonic)
    alive: bool = False

    def dead(self, mark: Path | None) -> bool:
        """Whether the owner with that `mark` is dead; of a folder without a mark, whether its maker is."""
        if mark is not None and mark.suffix == LEFT:
            return True
        if mark is not None and (alive := Owner.named(mark.stem).alive) is not None:
            self.alive = alive
            return not alive
        now = ("", "")
        if mark is not None:
            with suppress(OSError):
                now = (mark.name, mark.read_text())
        if now != self.seen:
            self.alive = now[0] == self.seen[0] != ""
            self.seen, self.since = now, time.monotonic()
        return time.monotonic() - self.since > DEAD
