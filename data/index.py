"""A data set's name or folder -> splits with labels (dataset.json, <split>.*).

The pipeline makes all its choices on `val`; only the gate uses `test`. `chosen_on` has the source of the images of `val`:

val      the user's own val/, if there is also a test/
train    else, for a network that is trained here, a slice of the training images, which no training uses
test     else, because a checkpoint may know its training images by heart, a part of the test images

If there are no training images, some of the other images are used for calibration and not for the gate.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data import apart, arrow, fetch, folder, public, readable, remembered, shards, splits
from data.depth import with_depth
from data.division import (
    Chosen,
    Division,
    Source,
    check_classes_left,
    check_not_empty,
    choose,
    count_of,
    source_of,
    training_of,
    training_splits,
)  # fmt: skip
from data.filenames import Names, printable
from data.files import Files
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
METRICS = ("name", "classes", "input_shape", "splits", "chosen_on", "judged_on", "labelled", "trainable", "notes")
KNOWN_BY_HEART = (
    "A slice of the training images chooses, because data.choose_share is 0. If the checkpoint knows its training images by "
    "heart, its accuracy on them is too high, and so is the drop of every engine."
)


class Data(Preprocessing, Division):
    """The images, how they are divided, and their preprocessing.

    name           a known data set, or a folder: see data/folder.py for the layouts
    new_classes    the checkpoint gets a new head, so its own classes are not used
    """

    name: str = "fashion-mnist"
    cache: str = ".cache/data"
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
    write(dataset, out)
    source: Source = dataset["chosen_on"]["source"]
    if source == "val":
        dataset["notes"] += apart.without_copies(out)
    elif source == "test":
        dataset["notes"] += apart.split_off(out, config.choose_share)
    elif not trained_here(known):
        dataset["notes"].append(KNOWN_BY_HEART)
    dataset["splits"] = {split: len(np.load(out / f"{split}.labels.npy", mmap_mode="r")) for split in dataset["splits"]}
    dataset["chosen_on"]["n"], dataset["judged_on"]["n"] = dataset["splits"]["val"], dataset["splits"]["test"]
    write(dataset, out)
    return {key: dataset[key] for key in METRICS}


def write(dataset: dict[str, Any], out: Path) -> None:
    (out / "dataset.json").write_text(json.dumps(dataset, indent=1))  # in ASCII: a path need not be UTF-8


def trained_here(network: Network | None) -> bool:
    """Whether the network is trained on these images by us, with the held-out ones left out."""
    return network is None or network.new_classes


def index_arrays(config: Data, out: Path, network: Network | None) -> dict[str, Any]:
    known = NAMED[config.name]
    classes = class_order(config.name, known["classes"], network)
    outputs = np.asarray([classes.index(name) for name in known["classes"]], np.int64)
    root = fetch.fetch(config.name, Path(config.cache))
    images, labels = known["read"](root, "train")
    source = source_of(config, trained_here=trained_here(network))
    train, val = training_of(config, labels, source)
    test_images, test_labels = known["read"](root, "test")
    test = np.arange(len(test_labels))[: config.test_limit]
    for name, pixels, targets, used in (
        ("train", images, labels, train), ("val", images, labels, val), ("test", test_images, test_labels, test),
    ):  # fmt: skip
        np.save(out / f"{name}.images.npy", pixels[used])
        np.save(out / f"{name}.labels.npy", outputs[targets[used]])
    chosen = {"train": train, "val": val, "test": test}
    check_not_empty(config.name, chosen, source)
    spec = preprocessing(config, network, known["preprocess"])
    return describe(config.name, "array", classes, spec, chosen, source)


def index_folder(config: Data, out: Path, network: Network | None) -> dict[str, Any]:
    root = Path(config.name).resolve()
    place = os.fsencode(root)
    name = printable(os.path.basename(place))
    found = shards.read(place, out) or arrow.read(place, Path(config.cache)) or folder.read(place)
    numbered = name_numbers(place, list(found.parts.values()), network)
    by_split = split_here(str(root), found) if found.split_here else found.parts
    parts = list(by_split.values())
    if found.labelled:
        check_classes(name, parts)
    classes = class_order(name, parts[0].classes if found.labelled else None, network)
    trainable = "train" in by_split
    source = source_of(config, trained_here=trainable and trained_here(network), own="val" in by_split, trainable=trainable)
    spec = preprocessing(config, network, None if network is None else network.family)

    files = files_of(str(root), found.larger, parts)
    labels = np.concatenate([output_of(part, classes) for part in parts])
    before = choose(config, labels, {split: len(part.names) for split, part in by_split.items()}, source)
    check_not_empty(name, before, source, trainable)
    looked = readable.to_check(before)
    to_read = files.chosen(looked)
    facts = readable.survey(to_read, spec, out)
    chosen, unreadable = leave_out_unreadable(name, to_read.names, facts, looked, before, out)
    spec, deep = with_depth(name, spec, facts)
    check_classes_left(name, classes, labels, before, chosen, training_splits(source) if trainable else None)
    check_not_empty(name, chosen, source, trainable)
    for split, indices in chosen.items():
        files.chosen(indices).save(out, split)
        np.save(out / f"{split}.labels.npy", labels[indices])
    notes = how_split(name, found, chosen) + found.notes + numbered + unreadable + deep + readable.noted(facts, spec)
    unchecked = sum(map(len, before.values())) - len(looked)
    notes += readable.unchecked_notes(unchecked, len(before["train"]))
    training, there = count_of(chosen, training_splits(source)), len(parts[0].names)
    if trainable and config.train_limit is not None and training < there:
        notes.append(f"{training:,} of the {there:,} training images are used (data.train_limit).")
    return {
        **describe(name, "folder", classes, spec, chosen, source),
        "root": str(root),
        "larger": found.larger,
        "fingerprint": fingerprint(config),
        "unchecked": unchecked,
        "labelled": found.labelled,
        "trainable": trainable,
        "notes": notes + left_out(parts),
    }


def files_of(root: str, larger: list[str], parts: Sequence[Listing]) -> Files:
    """The images of `parts`, one part after another."""
    places = np.concatenate([part.places for part in parts if part.places is not None]) if larger else None
    return Files(root, Names.of(name for part in parts for name in part.names), larger, places)


def split_here(root: str, found: folder.Found) -> dict[str, Listing]:
    """The only part of `found` as training images and test images."""
    part = found.parts["train"]
    labels, images = np.asarray(part.labels), len(part.names)
    if images <= splits.HASHED:
        files = files_of(root, found.larger, [part])
        return divided(part, splits.tested(np.asarray([splits.content_hash(files, i) for i in range(images)]), labels))
    hashes = np.asarray([splits.name_hash(os.path.basename(name)) for name in part.names])
    return divided(part, splits.tested(hashes, labels, min(splits.TEST_SHARE, splits.MOST_TESTED / images)))


def how_split(data: str, found: folder.Found, chosen: Chosen) -> list[str]:
    """A note if DATA itself does not define which images are for training and which for the test."""
    gated = len(chosen["test"])
    if found.split_here:
        training = count_of(chosen, ("train", "val"))
        how = "a fifth of every class, by a hash of the files' content"
        if len(found.parts["train"].names) > splits.HASHED:
            how = f"the same share of every class, at most {splits.MOST_TESTED:,}, by a hash of the files' names"
        return [
            f"{data} is not split into train/ and test/: {training:,} of its images are for training, the other {gated:,} are "
            f"the test set ({how}). To choose yourself, make these folders."
        ]
    if "train" in found.parts:
        return []
    lack = "no train/" if found.labelled else "no labels"
    calibrating = f"{data} has {lack}: {len(chosen['train']):,} of its images, drawn by a fixed seed, are for calibration"
    others = f"{len(chosen['val']):,} of val/ choose" if "val" in found.parts else f"{gated:,} are the test set"
    return [f"{calibrating}, the other {others}. Nothing is trained: no pruning, no distillation."]


def output_of(part: Listing, classes: list[str]) -> np.ndarray:
    """int64 [N]: the network's output for each image; -1 for those without a class."""
    place = {name: i for i, name in reversed(list(enumerate(classes)))}
    outputs = np.asarray([*(place[name] for name in part.classes), -1], np.int64)
    return outputs[np.asarray(part.labels, np.int64)]


def leave_out_unreadable(
    data: str, names: Names, facts: Sequence[readable.Facts], looked: np.ndarray, chosen: Chosen, out: Path
) -> tuple[Chosen, list[str]]:
    """`chosen` without the unreadable images, and a note with some of them; unreadable.txt lists all.

    `looked` are the indices of the images of `names` and `facts`. Raises ValueError if too many images are unreadable.
    """
    reasons = {i: of_image.reason for i, of_image in enumerate(facts) if of_image.reason}
    full = out / "unreadable.txt"
    full.unlink(missing_ok=True)
    if reasons:
        lines = [f"{printable(names[i])}\t{why}\n" for i, why in reasons.items()]
        full.write_text("".join(lines), encoding="utf-8")
    notes = readable.judge(data, names, reasons, full)
    bad = looked[list(reasons)]
    return {split: indices[~np.isin(indices, bad)] for split, indices in chosen.items()}, notes


def preprocessing(config: Data, network: Network | None, own: Preprocessing | None) -> Spec:
    """Priority: the user, then the files of the checkpoint, then the default of the data set or of the network's family."""
    levels = [config, *([network.given] if network else []), *([own] if own else [])]
    if network is not None and not network.new_classes:
        levels.append(Preprocessing(exif="ignore"))  # the usual loaders for training (torchvision, timm) do not rotate
    return merged(levels, network.in_channels if network else None)


def describe(name: str, kind: str, classes: list[str], spec: Spec, chosen: Chosen, source: Source) -> dict[str, Any]:
    side = spec["input_size"]
    return {
        "name": name,
        "kind": kind,
        "classes": classes,
        "input_shape": [spec["channels"], side, side],
        "splits": {split: len(indices) for split, indices in chosen.items()},
        "chosen_on": {"source": source},
        "judged_on": {"source": "test"},
        "preprocess": spec,
        "labelled": True,
        "trainable": True,
        "unchecked": 0,
        "notes": [],
    }


def fingerprint(config: Data) -> str | None:
    """A hash that changes with the folder of images: names, sizes and times of its files. None for named sets.

    The images of Parquet files are copied to the cache where they are not there: they are to be read after this, also if
    the index itself is cached.
    """
    if config.name in NAMED or not Path(config.name).is_dir():
        return None
    arrow.unpack(os.fsencode(config.name), Path(config.cache))
    return remembered.fingerprint(os.fsencode(config.name), Path(config.cache))
