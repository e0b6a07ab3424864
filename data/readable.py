"""Decode the images once before hours of training: which images cannot be read, and why.

Of more than `CHECKED` training images, only so many are decoded here; data/loader.py copes with the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from core.console import progress
from core.text import one_line, some
from data import preprocess, splits, workers
from data.division import Chosen
from data.filenames import Names, printable
from data.files import Files, Source
from data.kept import Kept

TOLERATED = 0.01  # of the images; if more are unreadable, the data set is probably broken
CHECKED = 50_000  # training images; to decode all of ImageNet takes an hour on two cores
GROUP = 64  # images that a worker decodes before it reports
ANIMATED = ("GIF", "WEBP", "TIFF", "PNG", "AVIF")  # MPO is none: cameras add a preview as its second frame
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Common formats that not every Pillow decodes, by the first 12 bytes of a file.
UNKNOWN: dict[str, Callable[[bytes], bool]] = {
    "AVIF": lambda start: start[4:12] in (b"ftypavif", b"ftypavis"),
    "HEIC": lambda start: start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS,
    "JPEG XL": lambda start: start[:2] == b"\xff\x0a" or start[4:8] == b"JXL ",
}


@dataclass(frozen=True)
class Facts:
    """What was found in one file.

    reason     why it cannot be read; "" if it can be read
    rotated    its EXIF orientation is not upright
    frames     it has more than one frame
    largest    the largest pixel value, if it has more than 8 bits
    floating   its pixels are floating-point numbers
    """

    reason: str = ""
    rotated: bool = False
    frames: bool = False
    largest: float | None = None
    floating: bool = False


class Decoding(Dataset[list[Facts]]):
    """For a list of indices, the facts of those images."""

    def __init__(self, files: Files, spec: preprocess.Spec) -> None:
        self.files, self.spec = files, spec

    def __getitems__(self, indices: list[int]) -> list[Facts]:
        return [facts(self.files, i, self.spec) for i in indices]


def facts(files: Files, i: int, spec: preprocess.Spec) -> Facts:
    """The facts of image `i`, which is decoded completely (a JPEG at an eighth of its size)."""
    try:
        source = files[i]
        with preprocess.opened(source, spec) as image:
            # Pillow itself always rotates TIFF files, so for them the setting of EXIF makes no difference.
            rotated = image.format != "TIFF" and image.getexif().get(preprocess.ORIENTATION, 1) in range(2, 9)
            image.draft("L", (1, 1))
            values = preprocess.deep_values(image)
            if values is None:
                preprocess.in_colour_mode(preprocess.turned(image, spec), spec)
            largest = None if values is None else float(values.max())
            animated = image.format in ANIMATED and several_frames(source)
            return Facts("", rotated, animated, largest, image.mode == "F")
    except OSError as error:
        return Facts(reason(error, files, i))


def several_frames(source: Source) -> bool:
    """Whether the file has more than one frame. A broken second frame does not count."""
    try:
        with Image.open(source, formats=ANIMATED) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # Pillow's decoders raise a dozen types for broken files
        return False


def reason(error: OSError, files: Files, i: int) -> str:
    """Why Pillow or the system could not read image `i`, in a few words."""
    if error.strerror:
        return error.strerror
    start = files.content(i)[:12]
    if not start:
        return "empty file"
    if str(error).startswith("cannot identify"):
        known = preprocess.known_formats()
        for name, found in UNKNOWN.items():
            if found(start) and name not in known:
                return f"Pillow here has no {name} decoder; convert it to JPEG or PNG"
        return f"none of {', '.join(known)}"
    return one_line(error)


def to_check(chosen: Chosen) -> np.ndarray:
    """Indices of the images to decode: at most `CHECKED` training images, evenly spaced, and all others."""
    train = chosen["train"]
    return np.concatenate([train[splits.thinned(len(train), CHECKED)], chosen["val"], chosen["test"]])


def unchecked_notes(unchecked: int, training: int) -> list[str]:
    if not unchecked:
        return []
    return [
        f"{training - unchecked:,} of the {training:,} training images, evenly spaced, were decoded before the training. If "
        "another one cannot be read during the training, the next image is used in its place, and a line names it."
    ]


def survey(files: Files, spec: preprocess.Spec, out: Path) -> list[Facts]:
    """The facts of every image of `files`. The images are decoded in worker processes.

    The facts are kept in `out` until all are there, so that an interrupted survey continues.
    """
    kept = Kept(out / "facts.jsonl")
    found = [Facts(**seen) for seen in kept.found]
    groups = [list(range(start, min(start + GROUP, len(files)))) for start in range(len(found), len(files), GROUP)]
    count = workers.wanted(len(groups))
    with progress() as bar:
        task = bar.add_task("check images", total=len(files), completed=len(found))
        for group in workers.results(Decoding(files, spec), groups, count):
            kept.add(vars(facts) for facts in group)
            found += group
            bar.advance(task, len(group))
    kept.finish()
    return found


def judge(data: str, names: Names, reasons: dict[int, str], full: Path) -> list[str]:
    """A note with the first unreadable images; no note if there are none. `full` is the file that lists all.

    Raises ValueError if there are too many.
    """
    if not reasons:
        return []
    total, count = len(names), len(reasons)
    shown = some([f"{printable(names[i])} ({why})" for i, why in sorted(reasons.items())[:6]])
    if count > TOLERATED * total:
        raise ValueError(
            f"DATA {data}: {count:,} of {total:,} images ({100 * count / total:.1f} %) cannot be read, more than the "
            f"allowed {100 * TOLERATED:.0f} %: {shown}; repair or remove them; {full} lists all"
        )
    return [f"{count:,} of {total:,} images cannot be read and {'is' if count == 1 else 'are'} left out: {shown}"]


def noted(found: list[Facts], spec: preprocess.Spec) -> list[str]:
    """Notes about rotated images and images with several frames."""
    notes = []
    if count := sum(facts.rotated for facts in found):
        images = f"{count:,} of {len(found):,} images {'has' if count == 1 else 'have'} an EXIF rotation"
        if spec["exif"] == "ignore":
            done = "is ignored, as in training with torchvision or timm; if the network was trained on upright images"
            notes.append(f"{images}, which {done}, pass --exif apply.")
        else:
            notes.append(f"{images}, which is applied; if the network was trained on unrotated images, pass --exif ignore.")
    if count := sum(facts.frames for facts in found):
        of = "1 image has" if count == 1 else f"{count:,} images have"
        notes.append(f"{of} several frames or pages; the first one is used.")
    return notes
