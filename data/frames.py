"""File names and tiny pictures of the judged images -> whether they look like frames of a few recordings."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from data.signatures import Signatures, distance

NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)\.\w+")
CAMERAS = {"", "img", "image", "dsc", "dscn", "dscf", "pict", "pic", "photo", "p", "screenshot", "test", "train", "val", "copy"}
FEWEST = 20
MOST = 0.5
ALIKE = 0.25  # of the usual distance between images of one class


def frame_notes(
    names: Sequence[str], labels: np.ndarray, found: Signatures, usual: float, training: Sequence[str]
) -> list[str]:
    """One note or none. `names` are those of the judged images, `training` of the training images that were read.

    Frames of one recording depend on one another: they show less than as many images of their own, and nothing new where the
    recording trains as well.
    """
    told = "the upper limit of a drop takes the images as independent; put every recording whole into one of the parts"
    if pair := following_alike(names, found, usual):
        return [f"Test images with consecutive numbers are nearly the same, as frames of a video are (such as {pair}): {told}."]
    if stems := shared_stems(names, labels, training):
        shown = ", ".join(f"{stem}…" for stem in stems[:3])
        return [f"Most test images look like frames of {len(stems):,} recordings that are also in train/ ({shown}): {told}."]
    return []


def following_alike(names: Sequence[str], found: Signatures, usual: float) -> str:
    """The names of two of them; "" where images with consecutive numbers are no more alike than others of their class."""
    runs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, name in enumerate(names):
        if match := NUMBERED.fullmatch(name):
            runs[match["stem"]].append((int(match["number"]), i))
    following = [
        (one, other)
        for run in runs.values()
        for (_, one), (_, other) in zip(sorted(run), sorted(run)[1:], strict=False)
        if found.digests[one] != found.digests[other]
    ]
    if len(following) < max(FEWEST, MOST * len(names)):
        return ""
    one, other = np.asarray(following).T
    apart = distance(found.tiny[one], found.tiny[other])
    nearest = int(np.argmin(apart))
    return f"{names[one[nearest]]} and {names[other[nearest]]}" if np.median(apart) < ALIKE * usual else ""


def shared_stems(names: Sequence[str], labels: np.ndarray, training: Sequence[str]) -> list[str]:
    """The stems, most images first, of most judged images where they tell recordings apart and training images have them too.

    A stem that is that of a whole class ("cat_001.jpg"), or of every camera ("IMG_001.jpg"), says nothing.
    """
    stems = [stem_of(name) for name in names]
    known = {stem_of(name) for name in training} - {""}
    counts = Counter((int(label), stem) for label, stem in zip(labels, stems, strict=True) if stem in known)
    per_class = Counter(label for label, _ in counts)
    found: Counter[str] = Counter()
    for (label, stem), count in counts.items():
        if per_class[label] > 1:
            found[stem] += count
    few = len(found) <= len(names) / 10
    return [stem for stem, _ in found.most_common()] if few and found.total() >= max(FEWEST, MOST * len(names)) else []


def stem_of(name: str) -> str:
    """ "val/cat/cam3_000123.jpg" -> "cam3_"; "" where there is no running number, or no name before it."""
    match = NUMBERED.fullmatch(os.path.basename(name))
    stem = match["stem"] if match else ""
    return "" if stem.rstrip("_-. (").lower() in CAMERAS else stem
