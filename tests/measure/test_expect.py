"""The line that refuses a baseline, and the notes about one that passes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from measure.expect import Expect, check_baseline

SPEC = {"channels": 3, "input_size": 32, "resize": "squash", "interpolation": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3}
ALTERNATING = [0, 1] * 50
SKEWED = [0] * 360 + [1] * 40


def checked(
    root: Path,
    predicted: list[int],
    labels: list[int],
    classes: tuple[str, ...] = ("ok", "defect"),
    top1: float | None = None,
    advice: str | None = None,
    own: bool = True,
) -> dict[str, Any]:
    """`own`: the network is the user's."""
    dataset = {"name": "mine", "classes": classes, "preprocess": SPEC, "labelled": min(labels) >= 0}
    (root / "dataset.json").write_text(json.dumps(dataset))
    (root / "fit.json").write_text(json.dumps({"advice": advice}))
    np.savez(root / "predictions.npz", top5=np.array(predicted)[:, None], labels=labels)
    given = {"preprocess": root} if own else {}
    return check_baseline(Expect(top1=top1), root, predictions=root, images=root, **given)


CHECK = (
    "preprocessing mismatch? Check --mean, --std, --input-size, --resize, --crop-pct, --interpolation, --channels, "
    "--channel-order (used: channels 3, input_size 32, resize squash, interpolation bilinear, mean [0.0, 0.0, 0.0], std "
    "[1.0, 1.0, 1.0]) and the order of the classes (labels.txt beside the checkpoint)"
)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "constant": (
        {"predicted": [0] * 400, "labels": SKEWED},
        "the FP32 baseline predicts 'ok' for all 400 images, no better than always predicting 'ok' (90.0 % of the images): "
        f"{CHECK}; if that is correct, confirm with --expect-top1 90",
    ),
    "constant, and the batch norm knows why": (
        {"predicted": [1] * 400, "labels": SKEWED, "advice": "--mean 0 fits"},
        "the FP32 baseline predicts 'defect' for all 400 images, no better than always predicting 'ok' (90.0 % of the images): "
        "preprocessing mismatch? --mean 0 fits; if that is correct, confirm with --expect-top1 10",
    ),
    "no better than the majority": (
        {"predicted": [0] * 356 + [1] * 4 + [0] * 37 + [1] * 3, "labels": SKEWED, "advice": "--mean 0 fits"},
        "the FP32 baseline gets 89.75 % of 400 images right, no better than always predicting 'ok' (90.0 % of the images); it "
        "predicts 'ok' for 98.2 % of them: preprocessing mismatch? --mean 0 fits; if that is correct, confirm with "
        "--expect-top1 90",
    ),
    "guesses": (
        {"predicted": [0, 0, 1, 1] * 25, "labels": ALTERNATING, "advice": "--mean 0 fits"},
        "the FP32 baseline gets 50.00 % of 100 images right, no better than random guessing among 2 classes; it predicts 'ok' "
        "for 50.0 % of them: preprocessing mismatch? --mean 0 fits; if that is correct, confirm with --expect-top1 50",
    ),
    "learnt nothing here": (
        {"predicted": [0] * 100, "labels": ALTERNATING, "own": False},
        "the FP32 baseline predicts 'ok' for all 100 images, no better than always predicting 'ok' (50.0 % of the images): "
        "train it longer (train.epochs) or with another learning rate (train.lr), or check the labels of the images; if "
        "that is correct, confirm with --expect-top1 50",
    ),
    "images of one class": (
        {"predicted": [0] * 30 + [1], "labels": [0] * 31},
        "all 31 test images are of class 'ok', which shows no accuracy; pass images of every class; if that is correct, "
        "confirm with --expect-top1 97",
    ),
    "exchanged labels": (
        {"predicted": [1, 0] * 50, "labels": ALTERNATING},
        "the labels are not in the order of the network's outputs: the FP32 baseline gets 0.0 % of 100 images right, with the "
        "classes in byte order it gets 100.0 %: write labels.txt beside the checkpoint with one class a line in the order of "
        "the outputs (defect, ok); if that is correct, confirm with --expect-top1 0",
    ),
    "permuted labels": (
        {"predicted": [1, 0, 2] * 50, "labels": [0, 1, 2] * 50, "classes": ("ant", "bee", "cow")},
        "the labels seem permuted: the FP32 baseline gets 33.3 % of 150 images right, with 'ant' and 'bee' exchanged it gets "
        "100.0 %: write labels.txt beside the checkpoint with one class a line in the order of the outputs (bee, ant, cow); if "
        "that is correct, confirm with --expect-top1 33",
    ),
    "natural order": (
        {"predicted": [0, 2, 1] * 50, "labels": [0, 1, 2] * 50, "classes": ("crack_1", "crack_10", "crack_2"), "top1": 97},
        "the labels are not in the order of the network's outputs: the FP32 baseline gets 33.3 % of 150 images right, with the "
        "classes in natural order it gets 100.0 %: write labels.txt beside the checkpoint with one class a line in the order "
        "of the outputs (crack_1, crack_2, crack_10)",
    ),
    "far below what was expected": (
        {"predicted": [0, 1] * 40 + [0] * 20, "labels": ALTERNATING, "top1": 99, "advice": "--mean 0 fits"},
        "the FP32 baseline gets 90.00 % of 100 images right, expected 99 %: preprocessing mismatch? --mean 0 fits",
    ),
    "constant without labels": (
        {"predicted": [1] * 20, "labels": [-1] * 20},
        "the FP32 baseline predicts 'defect' for all 20 images: a constant prediction cannot be compared; pass images of "
        "several classes, or check the checkpoint and the preprocessing (used: channels 3, input_size 32, resize squash, "
        "interpolation bilinear, mean [0.0, 0.0, 0.0], std [1.0, 1.0, 1.0])",
    ),
    "an accuracy without labels": (
        {"predicted": [0, 1], "labels": [-1, -1], "top1": 90},
        "--expect-top1 needs labelled images and DATA mine has no labels; leave it out",
    ),
}
NOTED: dict[str, tuple[dict[str, Any], str]] = {
    "confirmed": (
        {"predicted": [0] * 400, "labels": SKEWED, "top1": 90, "advice": "--mean 0 fits"},
        "Confirmed with --expect-top1 90: the FP32 baseline predicts 'ok' for all 400 images, no better than always predicting "
        "'ok' (90.0 % of the images): preprocessing mismatch? --mean 0 fits.",
    ),
    "below the majority, but it knows": (
        {"predicted": [0] * 290 + [1] * 70 + [1] * 36 + [0] * 4, "labels": SKEWED},
        "The FP32 baseline gets 81.50 % of 400 images right; always predicting 'ok' would get 90.00 %. It does distinguish the "
        "classes: check the recall of every class, too.",
    ),
    "constant, but too few other images": (
        {"predicted": [0] * 40, "labels": [0] * 38 + [1] * 2},
        "The FP32 baseline predicts 'ok' for all 40 images: these are too few images, or too many of one class, to show "
        "whether it can distinguish the classes.",
    ),
    "constant, few without labels": (
        {"predicted": [0] * 9, "labels": [-1] * 9},
        "The FP32 baseline predicts 'ok' for all 9 images: agreement with it means little.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_line_that_refuses(case: str, tmp_path: Path) -> None:
    given, line = REFUSED[case]
    with pytest.raises(ValueError) as refused:
        checked(tmp_path, **given)
    assert str(refused.value) == line


@pytest.mark.parametrize("case", NOTED)
def test_the_note(case: str, tmp_path: Path) -> None:
    given, note = NOTED[case]
    assert checked(tmp_path, **given) == {"notes": [note]}


@pytest.mark.parametrize("own", [True, False])
def test_a_good_baseline_is_not_mentioned(own: bool, tmp_path: Path) -> None:
    assert checked(tmp_path, [0] * 358 + [1] * 42, SKEWED, own=own) == {"notes": []}
    assert checked(tmp_path, [0, 1] * 4, [-1] * 8, own=own) == {"notes": []}
