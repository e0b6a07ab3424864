"""A data set's name or folder -> splits with labels (dataset.json, <split>.*).

Training images are split once, by a fixed seed, into `train` and `val`: every choice the pipeline makes is made on `val`.
`test` is for the gate alone.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data import fetch
from pipeline.config import Config

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
NAMED: dict[str, dict[str, Any]] = {
    "fashion-mnist": {
        "read": fetch.read_fashion_mnist,
        "classes": [
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ],
        "preprocess": {"channels": 1, "input_size": 32, "resize": "pad", "mean": [0.286], "std": [0.353]},
    },
    "cifar10": {
        "read": fetch.read_cifar10,
        "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        "preprocess": {
            "channels": 3, "input_size": 32, "resize": "pad",
            "mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616],
        },
    },
}  # fmt: skip
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Data(Config):
    """Which images, and how many of them. `name` is a known data set or an ImageFolder."""

    name: str = "fashion-mnist"
    cache: str = ".cache/data"
    holdout: float = Field(default=0.05, gt=0, lt=1)
    train_limit: int | None = Field(default=None, gt=0)
    test_limit: int | None = Field(default=None, gt=0)
    # for folders of images
    input_size: int = 224
    crop_pct: float = 0.875
    channels: Literal[1, 3] = 3


def index(config: Data, out: Path) -> dict[str, Any]:
    """Write the splits of `config.name` to `out`.

    Raises ValueError when the name is unknown, a folder has no images, or a named set cannot be fetched.
    """
    if config.name in NAMED:
        dataset = index_arrays(config, out)
    elif Path(config.name).is_dir():
        dataset = index_folder(config, out)
    else:
        raise ValueError(
            f"DATA {config.name!r} is neither a folder nor a known data set; "
            f"expected one of {', '.join(NAMED)}, or a folder with train/<class>/* and val/<class>/*"
        )
    if empty := [name for name, count in dataset["splits"].items() if not count]:
        raise ValueError(
            f"DATA {config.name} leaves no images for {', '.join(empty)}; expected at least 2 per class to train on"
        )
    (out / "dataset.json").write_text(json.dumps(dataset, indent=1, ensure_ascii=False))
    return {k: dataset[k] for k in ("name", "classes", "input_shape", "splits")}


def index_arrays(config: Data, out: Path) -> dict[str, Any]:
    known = NAMED[config.name]
    folder = fetch.fetch(config.name, Path(config.cache))
    images, labels = known["read"](folder, "train")
    train, val = split(labels, config.holdout, config.train_limit)
    test_images, test_labels = known["read"](folder, "test")
    test = np.arange(len(test_labels))[: config.test_limit]
    for name, pixels, targets, chosen in (
        ("train", images, labels, train), ("val", images, labels, val), ("test", test_images, test_labels, test),
    ):  # fmt: skip
        np.save(out / f"{name}.images.npy", pixels[chosen])
        np.save(out / f"{name}.labels.npy", targets[chosen])
    return describe(config.name, "array", known["classes"], known["preprocess"], (train, val, test))


def index_folder(config: Data, out: Path) -> dict[str, Any]:
    root = Path(config.name).resolve()
    train_files, classes = list_folder(root / "train", None)
    gate = "test" if (root / "test").is_dir() else "val"
    test_files, _ = list_folder(root / gate, classes)
    train, val = split(np.asarray([label for _, label in train_files]), config.holdout, config.train_limit)
    test = np.arange(len(test_files))
    if config.test_limit is not None and config.test_limit < len(test):  # files are sorted by class: thin them evenly
        test = np.linspace(0, len(test) - 1, config.test_limit).astype(int)
    for name, files, chosen in (("train", train_files, train), ("val", train_files, val), ("test", test_files, test)):
        (out / f"{name}.files.txt").write_text("".join(f"{files[i][0]}\n" for i in chosen))
        np.save(out / f"{name}.labels.npy", np.asarray([files[i][1] for i in chosen], np.int64))
    spec = {
        "channels": config.channels, "input_size": config.input_size, "resize": "shorter",
        "resize_size": round(config.input_size / config.crop_pct), "interpolation": "bilinear",
        "mean": IMAGENET_MEAN if config.channels == 3 else [0.449], "std": IMAGENET_STD if config.channels == 3 else [0.226],
    }  # fmt: skip
    return {
        **describe(root.name, "folder", classes, spec, (train, val, test)),
        "root": str(root),
        "fingerprint": fingerprint(config),
    }


def list_folder(folder: Path, classes: list[str] | None) -> tuple[list[tuple[str, int]], list[str]]:
    """(path relative to the data set's root, label) of every image in `folder`/<class>/, and the classes."""
    expected = "expected train/<class>/* and val/<class>/* (or test/) with images"
    if not folder.is_dir():
        raise ValueError(f"DATA has no folder {folder.name}/ in {folder.parent}; {expected}")
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    unknown = [name for name in found if classes is not None and name not in classes]
    if unknown:
        raise ValueError(f"{folder} has classes that train/ has not: {', '.join(unknown[:5])}; {expected}")
    classes = found if classes is None else classes
    files = [
        (str(path.relative_to(folder.parent)), label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not files:
        raise ValueError(f"DATA folder {folder} has no images; {expected}")
    return files, classes


def split(labels: np.ndarray, holdout: float, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the held-out images: the same share of every class, by a fixed seed."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    if limit is not None:
        order = order[: round(limit / (1 - holdout))]
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held[members[: max(1, round(len(members) * holdout))]] = True
    return np.sort(order[~held[order]]), np.sort(order[held[order]])


def describe(name: str, kind: str, classes: list[str], spec: dict[str, Any], splits: tuple[np.ndarray, ...]) -> dict[str, Any]:
    side = spec["input_size"]
    return {
        "name": name,
        "kind": kind,
        "classes": classes,
        "input_shape": [spec["channels"], side, side],
        "splits": {key: len(chosen) for key, chosen in zip(("train", "val", "test"), splits, strict=True)},
        "preprocess": spec,
    }


def fingerprint(config: Data) -> str | None:
    """What tells that a folder of images has changed: names, sizes and times of its files. None for named sets."""
    root = Path(config.name)
    if config.name in NAMED or not root.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
