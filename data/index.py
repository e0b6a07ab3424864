"""A data set's name or folder -> splits with labels (dataset.json, <split>.*).

Training images are split once, by a fixed seed, into `train` and `val`: the pipeline makes all its choices on `val`. Only the
gate uses `test`. If there are no training images, some of the other images are used for calibration and not for the gate.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from core.text import some
from data import fetch, folder, public, readable, splits, walk
from data.depth import with_depth
from data.filenames import Names, printable
from data.listing import Listing, check_classes, divided, left_out
from data.network import Network, class_order, read_network, same_classes
from data.numbered import name_numbers
from data.preprocess import Spec
from data.spec import Preprocessing, merged

NAMED: dict[str, dict[str, Any]] = {
    "fashion-mnist": {
        "read": public.read_fashion_mnist,
        "classes": [
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ],
        "preprocess": Preprocessing(channels=1, input_size=32, resize="pad", mean=(0.286,), std=(0.353,)),
    },
    "cifar10": {
        "read": public.read_cifar10,
        "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        "preprocess": Preprocessing(
            channels=3, input_size=32, resize="pad", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)
        ),
    },
}  # fmt: skip
Chosen = dict[str, np.ndarray]  # split -> indices of its images


class Data(Preprocessing):
    """The images, their number, and their preprocessing.

    name           a known data set, or a folder: see data/folder.py for the layouts
    holdout        share of the training images that is held out for choices (`val`)
    train_limit    at most so many training images
    test_limit     at most so many test images
    new_classes    the checkpoint gets a new head, so its own classes are not used
    """

    name: str = "fashion-mnist"
    cache: str = ".cache/data"
    holdout: float = Field(default=0.05, gt=0, lt=1)
    train_limit: int | None = Field(default=None, gt=0)
    test_limit: int | None = Field(default=None, gt=0)
    new_classes: bool = False


def index(config: Data, out: Path, *, network: Path | None = None) -> dict[str, Any]:
    """Write the splits of `config.name` to `out`; `network` is the folder of a loaded checkpoint.

    Raises ValueError if the name is unknown, a named set cannot be fetched, the layout of the folder is unknown, images cannot
    be read, or the classes are not those of the network.
    """
    known = None if network is None else read_network(network)
    if known is not None and config.new_classes:
        known = replace(known, new_classes=True)
    if config.name in NAMED:
        dataset = index_arrays(config, out, known)
    elif Path(config.name).is_dir():
        dataset = index_folder(config, out, known)
    else:
        what = "is a file" if Path(config.name).is_file() else "is neither a folder nor a known data set"
        raise ValueError(f"DATA {config.name!r} {what}; expected one of {', '.join(NAMED)}, or a folder: {folder.EXPECTED}")
    dataset["same_classes"] = same_classes(dataset["classes"], known)
    (out / "dataset.json").write_text(json.dumps(dataset, indent=1))  # in ASCII: a path need not be UTF-8
    return {k: dataset[k] for k in ("name", "classes", "input_shape", "splits", "labelled", "trainable", "notes")}


def index_arrays(config: Data, out: Path, network: Network | None) -> dict[str, Any]:
    known = NAMED[config.name]
    classes = class_order(config.name, known["classes"], network)
    outputs = np.asarray([classes.index(name) for name in known["classes"]], np.int64)
    root = fetch.fetch(config.name, Path(config.cache))
    images, labels = known["read"](root, "train")
    train, val = splits.held_out(labels, config.holdout, config.train_limit)
    test_images, test_labels = known["read"](root, "test")
    test = np.arange(len(test_labels))[: config.test_limit]
    for name, pixels, targets, chosen in (
        ("train", images, labels, train), ("val", images, labels, val), ("test", test_images, test_labels, test),
    ):  # fmt: skip
        np.save(out / f"{name}.images.npy", pixels[chosen])
        np.save(out / f"{name}.labels.npy", outputs[targets[chosen]])
    check_not_empty(config.name, {"train": train, "val": val, "test": test})
    spec = preprocessing(config, network, known["preprocess"])
    return describe(config.name, "array", classes, spec, {"train": train, "val": val, "test": test})


def index_folder(config: Data, out: Path, network: Network | None) -> dict[str, Any]:
    root = Path(config.name).resolve()
    place = os.fsencode(root)
    name = printable(os.path.basename(place))
    found = folder.read(place)
    numbered = name_numbers(place, found.parts, network)
    parts = split_here(str(root), found.parts[0]) if found.split_here else found.parts
    if found.labelled:
        check_classes(name, parts)
    classes = class_order(name, parts[0].classes if found.labelled else None, network)
    trainable = len(parts) == 2
    spec = preprocessing(config, network, None if network is None else network.family)

    names = Names.of(image for part in parts for image in part.names)
    labels = np.concatenate([output_of(part, classes) for part in parts])
    before = choose(config, labels, len(parts[0].names) if trainable else None)
    optional = () if trainable else ("val",)
    check_not_empty(name, before, optional)
    used = np.concatenate(list(before.values()))
    used_names = Names.of(names[i] for i in used)
    facts = readable.survey(str(root), used_names, spec)
    chosen, unreadable = leave_out_unreadable(name, used_names, facts, used, before, out)
    spec, deep = with_depth(name, spec, facts)
    check_classes_left(name, classes, labels, before, chosen, trainable)
    check_not_empty(name, chosen, optional)
    for split, indices in chosen.items():
        Names.of(names[i] for i in indices).save(out, split)
        np.save(out / f"{split}.labels.npy", labels[indices])
    notes = how_split(name, found, chosen) + found.notes + numbered + unreadable + deep + readable.noted(facts, spec)
    training, there = len(chosen["train"]) + len(chosen["val"]), len(parts[0].names)
    if trainable and config.train_limit is not None and training < there:
        notes.append(f"{training:,} of the {there:,} training images are used (data.train_limit).")
    return {
        **describe(name, "folder", classes, spec, chosen),
        "root": str(root),
        "fingerprint": fingerprint(config),
        "labelled": found.labelled,
        "trainable": trainable,
        "notes": notes + left_out(parts),
    }


def split_here(root: str, part: Listing) -> list[Listing]:
    """`part` as training images and test images."""
    paths = [os.path.join(root, os.fsdecode(name)) for name in part.names]
    return divided(part, splits.by_content(paths, np.asarray(part.labels)))


def how_split(data: str, found: folder.Found, chosen: Chosen) -> list[str]:
    """A note if DATA itself does not define which images are for training and which for the test."""
    training, gated = len(chosen["train"]) + len(chosen["val"]), len(chosen["test"])
    if found.split_here:
        return [
            f"{data} is not split into train/ and test/: {training:,} of its images are for training, the other {gated:,} are "
            "the test set (a fifth of every class, by a hash of the files' content). To choose yourself, make these folders."
        ]
    if len(found.parts) == 2:
        return []
    lack = "no train/" if found.labelled else "no labels"
    return [
        f"{data} has {lack}: {training:,} of its images, drawn by a fixed seed, are for calibration, the other {gated:,} are "
        "the test set. Nothing is trained: no pruning, no distillation."
    ]


def output_of(part: Listing, classes: list[str]) -> np.ndarray:
    """int64 [N]: the network's output for each image; -1 for those without a class."""
    place = {name: i for i, name in reversed(list(enumerate(classes)))}
    outputs = np.asarray([*(place[name] for name in part.classes), -1], np.int64)
    return outputs[np.asarray(part.labels, np.int64)]


def choose(config: Data, labels: np.ndarray, training: int | None) -> Chosen:
    """The splits; the first `training` images are for training, None: no images are."""
    if training is not None:
        train, val = splits.held_out(labels[:training], config.holdout, config.train_limit)
        return {"train": train, "val": val, "test": training + splits.thinned(len(labels) - training, config.test_limit)}
    train, others = splits.calibrating(labels, config.train_limit)
    return {"train": train, "val": train[:0], "test": others[splits.thinned(len(others), config.test_limit)]}


def leave_out_unreadable(
    data: str, names: Names, facts: Sequence[readable.Facts], used: np.ndarray, chosen: Chosen, out: Path
) -> tuple[Chosen, list[str]]:
    """`chosen` without the unreadable images, and a note with some of them; unreadable.txt lists all.

    `used` are the indices of the images of `names` and `facts`. Raises ValueError if too many images are unreadable.
    """
    reasons = {i: of_image.reason for i, of_image in enumerate(facts) if of_image.reason}
    full = out / "unreadable.txt"
    full.unlink(missing_ok=True)
    if reasons:
        lines = [f"{printable(names[i])}\t{why}\n" for i, why in reasons.items()]
        full.write_text("".join(lines), encoding="utf-8")
    notes = readable.judge(data, names, reasons, full)
    bad = used[list(reasons)]
    return {split: indices[~np.isin(indices, bad)] for split, indices in chosen.items()}, notes


def check_classes_left(
    data: str, classes: list[str], labels: np.ndarray, before: Chosen, after: Chosen, trainable: bool
) -> None:
    """ValueError with the classes that have no readable image; if there are training images, no readable training image."""
    counted = ("train", "val") if trainable else tuple(before)
    had, has = (set(np.concatenate([labels[chosen[split]] for split in counted]).tolist()) for chosen in (before, after))
    if lost := [classes[label] for label in sorted(had - has) if label >= 0]:
        kind = "training image" if trainable else "image"
        raise ValueError(f"DATA {data} has no readable {kind} of {some(lost)}; repair some, or remove their folders")


def check_not_empty(data: str, chosen: Chosen, optional: tuple[str, ...] = ()) -> None:
    if empty := [split for split, indices in chosen.items() if not len(indices) and split not in optional]:
        expected = "2 images, one of them for calibration" if optional else "2 training images per class"
        raise ValueError(f"DATA {data} leaves no images for {', '.join(empty)}; expected at least {expected}")


def preprocessing(config: Data, network: Network | None, own: Preprocessing | None) -> Spec:
    """Priority: the user, then the files of the checkpoint, then the default of the data set or of the network's family."""
    levels = [config, *([network.given] if network else []), *([own] if own else [])]
    if network is not None and not network.new_classes:
        levels.append(Preprocessing(exif="ignore"))  # the usual loaders for training (torchvision, timm) do not rotate
    return merged(levels, network.in_channels if network else None)


def describe(name: str, kind: str, classes: list[str], spec: Spec, chosen: Chosen) -> dict[str, Any]:
    side = spec["input_size"]
    return {
        "name": name,
        "kind": kind,
        "classes": classes,
        "input_shape": [spec["channels"], side, side],
        "splits": {split: len(indices) for split, indices in chosen.items()},
        "preprocess": spec,
        "labelled": True,
        "trainable": True,
        "notes": [],
    }


def fingerprint(config: Data) -> str | None:
    """A hash that changes with the folder of images: names, sizes and times of its files. None for named sets."""
    if config.name in NAMED or not Path(config.name).is_dir():
        return None
    digest = hashlib.sha256()
    for entry in walk.walk(os.fsencode(config.name)):
        status = walk.status_of(entry)
        digest.update(b"%s\0%d\0%d\n" % (entry.path, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()
