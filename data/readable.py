"""Decode every image once before hours are spent on them: which cannot be read, and why."""

import os
from pathlib import Path

from torch.utils.data import Dataset

from core import hardware
from core.console import progress
from core.text import one_line, some
from data import preprocess, workers
from data.filenames import Names, printable

TOLERATED = 0.01  # of the images; more is no accident
GROUP = 64  # images that a worker decodes before it reports


class Decoding(Dataset[list[tuple[int, str]]]):
    """Asked for a list of indices it answers with those whose image cannot be read, and why."""

    def __init__(self, root: str, names: Names, spec: preprocess.Spec) -> None:
        self.root, self.names, self.spec = root, names, spec

    def __getitems__(self, indices: list[int]) -> list[tuple[int, str]]:
        found = []
        for i in indices:
            path = os.path.join(self.root, os.fsdecode(self.names[i]))
            try:
                preprocess.load(path, self.spec, coarse=True)
            except OSError as error:
                found.append((i, reason(error, path)))
        return found


def reason(error: OSError, path: str) -> str:
    """Why Pillow or the system could not read `path`, in a few words."""
    if error.strerror:
        return error.strerror
    if os.path.getsize(path) == 0:
        return "empty file"
    if str(error).startswith("cannot identify"):
        return f"none of {', '.join(preprocess.FORMATS)}"
    return one_line(error)


def unreadable(root: str, names: Names, spec: preprocess.Spec) -> dict[int, str]:
    """Indices into `names` (relative to `root`) of the images that cannot be read, and why. Decoded in worker processes."""
    groups = [list(range(start, min(start + GROUP, len(names)))) for start in range(0, len(names), GROUP)]
    count = min(len(groups), hardware.cores()) if len(groups) > 1 else 0
    found: dict[int, str] = {}
    with progress() as bar:
        task = bar.add_task("check images", total=len(names))
        found_in = workers.answers(Decoding(root, names, spec), groups, count)
        for group, answer in zip(groups, found_in, strict=True):
            found.update(answer)
            bar.advance(task, len(group))
    return found


def judge(data: str, names: Names, reasons: dict[int, str], full: Path) -> list[str]:
    """One note that names the unreadable images, none when there are none; `full` is the list of all.

    Raises ValueError when they are too many.
    """
    if not reasons:
        return []
    total, count = len(names), len(reasons)
    told = some([f"{printable(names[i])} ({why})" for i, why in sorted(reasons.items())[:6]])
    if count > TOLERATED * total:
        raise ValueError(
            f"DATA {data}: {count:,} of {total:,} images ({100 * count / total:.1f} %) cannot be read, more than the "
            f"{100 * TOLERATED:.0f} % that may be left out: {told}; repair or remove them, {full} lists all"
        )
    return [f"{count:,} of {total:,} images cannot be read and {'is' if count == 1 else 'are'} left out: {told}"]
