"""Which of the images train, calibrate, choose (`val`) and judge (`test`), as indices."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from core.config import Config
from core.text import some
from data import splits

Chosen = dict[str, np.ndarray]  # split -> indices of its images
Source = Literal["val", "train", "test"]


class Division(Config):
    """How the images are divided.

    holdout           share of the training images that is held out for choices, if a slice of them chooses; up to a fifth where
                      this share is fewer than 300 images
    choose_share      share of the test images that chooses, if there are no other images for it; 0: a slice of the training
                      images chooses, also for a checkpoint
    choose_from_test  a part of the test images chooses also for a network that is trained here
    train_limit       at most so many training images
    test_limit        at most so many test images, those that choose included, and at most so many of the user's own val/
    """

    holdout: float = Field(default=0.05, gt=0, lt=1)
    choose_share: float = Field(default=1 / 3, ge=0, le=0.5)
    choose_from_test: bool = False
    train_limit: int | None = Field(default=None, gt=0)
    test_limit: int | None = Field(default=None, gt=0)


def source_of(config: Division, *, trained_here: bool, own: bool = False, trainable: bool = True) -> Source:
    """Where the images that choose come from. Raises ValueError if there are none.

    `trained_here`: the network is trained on these images; `own`: the user has a val/ beside test/; `trainable`: there are
    training images.
    """
    if own:
        return "val"
    if not config.choose_share and not trainable:
        raise ValueError(
            "data.choose_share = 0: a slice of the training images would choose, and DATA has none; leave --choose-share out"
        )
    return "test" if config.choose_share and (config.choose_from_test or not trained_here) else "train"


def choose(config: Division, labels: np.ndarray, sizes: dict[str, int], source: Source) -> Chosen:
    """The splits of images that lie one part after another; `sizes` has the number of images of each part.

    If a part of the test images will choose, they are all in `test` here and `val` is empty.
    """
    ends = np.cumsum(list(sizes.values()))
    parts = {split: np.arange(end - size, end) for (split, size), end in zip(sizes.items(), ends, strict=True)}
    if "train" in parts:
        train, val = training_of(config, labels[parts["train"]], source)
        parts = {"val": val, **parts, "train": train}
    else:
        calibrating = "val" if "val" in parts else "test"
        train, others = splits.calibrating(labels[parts[calibrating]], config.train_limit)
        parts = {"val": train[:0], **parts, "train": parts[calibrating][train], calibrating: parts[calibrating][others]}
    limited = ("test", "val") if source == "val" else ("test",)
    parts |= {split: parts[split][splits.thinned(len(parts[split]), config.test_limit)] for split in limited}
    return {split: parts[split] for split in ("train", "val", "test")}


def training_of(config: Division, labels: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training images and of those that are held out, if a slice of the training images chooses."""
    if source == "train":
        return splits.held_out(labels, config.holdout, config.train_limit)
    train = splits.drawn(len(labels), config.train_limit)
    return train, train[:0]


def training_splits(source: Source) -> tuple[str, ...]:
    """The splits that the training images are divided into."""
    return ("train", "val") if source == "train" else ("train",)


def count_of(chosen: Chosen, names: Sequence[str]) -> int:
    return sum(len(chosen[split]) for split in names)


def check_classes_left(
    data: str, classes: list[str], labels: np.ndarray, before: Chosen, after: Chosen, training: Sequence[str] | None
) -> None:
    """ValueError with the classes that have no readable image in the splits `training`; None: there are no training images."""
    counted = training or tuple(before)
    had, has = (set(np.concatenate([labels[chosen[split]] for split in counted]).tolist()) for chosen in (before, after))
    if lost := [classes[label] for label in sorted(had - has) if label >= 0]:
        kind = "training image" if training else "image"
        raise ValueError(f"DATA {data} has no readable {kind} of {some(lost)}; repair some, or remove their folders")


def check_not_empty(data: str, chosen: Chosen, source: Source, trainable: bool = True) -> None:
    """ValueError if a split has no images. If a part of the test images will choose, `val` is still empty."""
    optional = "val" if source == "test" else ""
    if empty := [split for split, indices in chosen.items() if not len(indices) and split != optional]:
        expected = "2 training images per class" if trainable else "2 images, one of them for calibration"
        raise ValueError(f"DATA {data} leaves no images for {', '.join(empty)}; expected at least {expected}")
