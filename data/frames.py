"""File names and tiny pictures of the test images -> a note if they look like frames of a few recordings."""

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
    """One note or none. `names` are those of the test images, `training` those of the training images that were read.

    Frames of one recording are not independent: they show less than the same number of independent images. If the recording
    also has frames in the training images, they show nothing about new recordings.
    """
    advice = "the upper limit of a drop assumes independent images; put every recording completely into one split"
    if pair := following_alike(names, found, usual):
        return [f"Test images with consecutive numbers are nearly the same, like frames of a video (such as {pair}): {advice}."]
    if stems := shared_stems(names, labels, training):
        shown = ", ".join(f"{stem}…" for stem in stems[:3])
        return [f"Most test images look like frames of {len(stems):,} recordings that are also in train/ ({shown}): {advice}."]
    return []


def following_alike(names: Sequence[str], found: Signatures, usual: float) -> str:
    """The names of two such images; "" if consecutive images are not more similar than other images of their class."""
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
    """The stems, the most frequent first, if they identify recordings of most test images and training images have them, too.

    A stem that a whole class has ("cat_001.jpg"), or every camera uses ("IMG_001.jpg"), does not identify a recording.
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
