"""images -> duplicates.npz: which test images are distinct, and which are not also training images.

Runs before any training. With copies among the test images, the confidence interval of a verdict is too narrow. With training
images among them, the verdict is too good. The upper limit of a drop counts distinct images (`counted`); accuracy counts all.
The same holds for the images that choose, except where a slice of the training images chooses.

    counted   bool [N]   whether a test image counts in a verdict
    group     int64 [N]  the first test image that it is a copy of; its own index if it is no copy
    chooses   bool [V]   whether an image of `val` counts in a choice
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from core.config import Config
from core.text import some
from data import splits
from data.division import training_splits
from data.frames import frame_notes
from data.loader import Split
from data.signatures import Signatures, copies, groups_of, near, signatures, signatures_of, usual_distance

TOLERATED = 0.01
ENOUGH, LEAST = 50, 0.2
CHOOSING = "images that choose"


class CheckImages(Config):
    """`train_limit`: at most so many training images, and so many held-out ones, are compared with the other images."""

    train_limit: int = Field(default=50_000, gt=0)


def check_images(config: CheckImages, out: Path, *, images: Path) -> dict[str, Any]:
    """Raises ValueError if nearly all test images, or nearly all images that choose, are also training images."""
    dataset = json.loads((images / "dataset.json").read_text())
    source = dataset["chosen_on"]["source"]
    known, names = training(images, training_splits(source), config.train_limit)
    test = Split(images, "test")
    found = signatures_of(images, "test")
    usual = usual_distance(found, test.labels)
    judges = compared(test, found, near(usual), known, names)
    notes = [
        *copy_notes(test, judges.group),
        *training_notes(judges, "test images", source, dataset["trainable"]),
        *missing_class_notes(images, dataset),
    ]
    if dataset["kind"] == "folder":
        notes += frame_notes([test.name(i) for i in range(len(test))], test.labels, found, usual, names)
    chooses = np.ones(dataset["splits"]["val"], bool)
    if source != "train":
        val = compared(Split(images, "val"), signatures_of(images, "val"), near(usual), known, names)
        chooses = val.counted(dataset["trainable"])
        notes += training_notes(val, CHOOSING, source, dataset["trainable"])
        check_left(dataset["name"], CHOOSING, val, dataset["trainable"])
    check_left(dataset["name"], "test images", judges, dataset["trainable"])
    counted = judges.counted(dataset["trainable"])
    np.savez(out / "duplicates.npz", counted=counted, group=judges.group, chooses=chooses)
    return {
        "images": len(test),
        "distinct": int((~judges.repeated).sum()),
        "in_training": int(judges.trained.sum()),
        "counted": int(counted.sum()),
        "choosing": int(chooses.sum()),
        "notes": notes,
    }


@dataclass(frozen=True)
class Compared:
    """A split's images. `group` [N] as in duplicates.npz; `trained` [N]: also among the training images, such as `example`."""

    group: np.ndarray
    trained: np.ndarray
    example: str

    @property
    def repeated(self) -> np.ndarray:
        return np.asarray(self.group != np.arange(len(self.group)))

    def excluded(self, trainable: bool) -> bool:
        """Whether the images that are also training images do not count."""
        return bool(trainable and self.trained.mean() > TOLERATED)

    def counted(self, trainable: bool) -> np.ndarray:
        counted = ~self.repeated if self.repeated.mean() > TOLERATED else np.ones(len(self.group), bool)
        return counted & ~self.trained if self.excluded(trainable) else counted


def compared(split: Split, found: Signatures, within: float, known: Signatures, names: list[str]) -> Compared:
    """The images `found` of `split`, compared with each other and with the training images `known`."""
    group = groups_of(copies(found, found, within), len(split))
    pairs = copies(found, known, within)
    trained = np.isin(group, group[pairs[:, 0]])  # copies of a training image count as training images, too
    example = " and ".join((split.name(int(pairs[0, 0])), names[int(pairs[0, 1])])) if len(pairs) else ""
    return Compared(group, trained, example)


def training(images: Path, chosen_splits: tuple[str, ...], limit: int) -> tuple[Signatures, list[str]]:
    """Signatures and names of the images of the training splits, at most `limit` of each, evenly spaced."""
    parts, names = [], []
    for name in chosen_splits:
        split = Split(images, name)
        chosen = splits.thinned(len(split), limit)
        parts.append(signatures(split, chosen))
        names += [split.name(int(i)) for i in chosen]
    digests, tiny = (np.concatenate([getattr(part, field) for part in parts]) for field in ("digests", "tiny"))
    return Signatures(digests, tiny), names


def check_left(data: str, kind: str, found: Compared, trainable: bool) -> None:
    """ValueError if too few images are left that are not training images."""
    if not found.excluded(trainable):
        return
    total, count, left = len(found.group), int(found.trained.sum()), int(found.counted(trainable).sum())
    needed = round(max(LEAST * total, min(ENOUGH, total / 2)))
    if left < needed:
        raise ValueError(
            f"DATA {data}: {count:,} of {total:,} {kind} are also training images, the same or nearly (such as "
            f"{found.example}), so they show nothing about new images; {left:,} others are left, expected at least "
            f"{needed:,}: put every image, with its copies, either into train/ or into test/ (or val/)"
        )


def copy_notes(test: Split, group: np.ndarray) -> list[str]:
    repeated = np.flatnonzero(group != np.arange(len(group)))
    total, count = len(group), len(repeated)
    if not count:
        return []
    pair = f"such as {test.name(int(group[repeated[0]]))} and {test.name(int(repeated[0]))}"
    if count <= TOLERATED * total:
        return [f"{count:,} of {total:,} test images {are(count)} of others, the same or nearly ({pair}); all of them count."]
    return [
        f"{total:,} test images are only {total - count:,} distinct ones: {count:,} {are(count)} of others, the same or nearly "
        f"({pair}). The verdict counts each of them once; accuracy counts all."
    ]


def are(count: int) -> str:
    return "is a copy" if count == 1 else "are copies"


def training_notes(found: Compared, kind: str, source: str, trainable: bool) -> list[str]:
    total, count = len(found.trained), int(found.trained.sum())
    if not count:
        return []
    training = "training or held-out images" if source == "train" else "training images"
    known = training if trainable else "calibration images"
    where = "choices" if kind == CHOOSING else "the verdict"
    counts = f"They do not count in {where}; accuracy counts all." if found.excluded(trainable) else f"They count in {where}."
    return [
        f"{count:,} of {total:,} {kind} {'is' if count == 1 else 'are'} also among the {known}, the same or nearly "
        f"(such as {found.example}). {counts}"
    ]


def missing_class_notes(images: Path, dataset: dict[str, Any]) -> list[str]:
    """A note with the classes that have training images and no test image."""
    labels = {name: np.unique(Split(images, name).labels) for name in ("train", "val", "test")}
    missing = np.setdiff1d(np.union1d(labels["train"], labels["val"]), labels["test"])
    if not dataset["labelled"] or not len(missing):
        return []
    names = some([dataset["classes"][i] for i in missing])
    classes = "class has" if len(missing) == 1 else "classes have"
    return [f"{len(missing):,} {classes} no test image and cannot be judged: {names}."]
