"""images -> duplicates.npz: which test images are distinct, and which are not also training images.

Runs before any training. With copies among the test images, the confidence interval of a verdict is too narrow. With training
images among them, the verdict is too good. The upper limit of a drop counts distinct images (`counted`); accuracy counts all.

    counted   bool [N]   whether a test image counts in a verdict
    group     int64 [N]  the first test image that it is a copy of; its own index if it is no copy
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array  # type: ignore[import-untyped, unused-ignore]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped, unused-ignore]

from core.config import Config
from core.text import some
from data import splits
from data.frames import frame_notes
from data.loader import Split
from data.signatures import Signatures, copies, near, signatures, usual_distance

TOLERATED = 0.01
ENOUGH, LEAST = 50, 0.2


class CheckImages(Config):
    """`train_limit`: at most so many training images, and so many held-out images, are compared with the test images."""

    train_limit: int = Field(default=50_000, gt=0)


def check_images(config: CheckImages, out: Path, *, images: Path) -> dict[str, Any]:
    """Raises ValueError if nearly all test images are also training images."""
    dataset = json.loads((images / "dataset.json").read_text())
    test = Split(images, "test")
    found = signatures(test, np.arange(len(test)))
    usual = usual_distance(found, test.labels)
    group = groups_of(copies(found, found, near(usual)), len(test))
    known, names = training(images, config.train_limit)
    pairs = copies(found, known, near(usual))
    trained = np.isin(group, group[pairs[:, 0]])  # copies of a training image count as training images, too
    example = " and ".join((test.name(int(pairs[0, 0])), names[int(pairs[0, 1])])) if len(pairs) else ""

    repeated = group != np.arange(len(test))
    counted = ~repeated if repeated.mean() > TOLERATED else np.ones(len(test), bool)
    excluded = dataset["trainable"] and trained.mean() > TOLERATED
    if excluded:
        counted &= ~trained
        check_left(dataset["name"], int(counted.sum()), trained, example)
    np.savez(out / "duplicates.npz", counted=counted, group=group)
    notes = [
        *copy_notes(test, group),
        *training_notes(trained, example, dataset["trainable"], excluded),
        *missing_class_notes(images, dataset),
    ]
    if dataset["kind"] == "folder":
        notes += frame_notes([test.name(i) for i in range(len(test))], test.labels, found, usual, names)
    return {
        "images": len(test),
        "distinct": int((~repeated).sum()),
        "in_training": int(trained.sum()),
        "counted": int(counted.sum()),
        "notes": notes,
    }


def groups_of(pairs: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: for each image the first one that it is connected with by `pairs`."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, own = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(first[own], np.int64)


def training(images: Path, limit: int) -> tuple[Signatures, list[str]]:
    """Signatures and names of the training and the held-out images, at most `limit` of each, evenly spaced."""
    parts, names = [], []
    for name in ("train", "val"):
        split = Split(images, name)
        chosen = splits.thinned(len(split), limit)
        parts.append(signatures(split, chosen))
        names += [split.name(int(i)) for i in chosen]
    digests, tiny = (np.concatenate([getattr(part, field) for part in parts]) for field in ("digests", "tiny"))
    return Signatures(digests, tiny), names


def check_left(data: str, left: int, trained: np.ndarray, example: str) -> None:
    """ValueError if too few test images are left that are not training images."""
    total, count = len(trained), int(trained.sum())
    needed = round(max(LEAST * total, min(ENOUGH, total / 2)))
    if left < needed:
        raise ValueError(
            f"DATA {data}: {count:,} of {total:,} test images are also training images, the same or nearly (such as "
            f"{example}), so they show nothing about new images; {left:,} others are left, expected at least {needed:,}: put "
            "every image, with its copies, either into train/ or into test/ (or val/)"
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


def training_notes(trained: np.ndarray, example: str, trainable: bool, excluded: bool) -> list[str]:
    total, count = len(trained), int(trained.sum())
    if not count:
        return []
    kind = "training or held-out images" if trainable else "calibration images"
    counts = "They do not count in the verdict; accuracy counts all." if excluded else "They count in the verdict."
    return [
        f"{count:,} of {total:,} test images {'is' if count == 1 else 'are'} also among the {kind}, the same or nearly "
        f"(such as {example}). {counts}"
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
