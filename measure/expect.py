"""Is the accuracy of the baseline plausible? This is checked before hours are spent on pressing it.

A wrong mean, colour order or order of classes costs accuracy without any error. And a baseline that only guesses has no
accuracy to lose, so every engine would pass the gate.
"""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import Field
from scipy.special import ndtri  # type: ignore[import-untyped, unused-ignore]

from core.config import Config
from core.text import joined, some
from measure.knowledge import Knowledge, knowledge_of, sign_test
from measure.label_order import better_order
from measure.predictions import Predictions, read_predictions

SIGNIFICANCE = 0.05
SHOWN = 6  # classes in a message


class Expect(Config):
    """`top1`: the known accuracy of the baseline, in percent. `tolerance` points below it, plus the sampling error of the test
    images, are accepted. A baseline that reaches `top1` is never refused."""

    top1: float | None = Field(default=None, ge=0, le=100)
    tolerance: float = Field(default=1.0, ge=0)


def check_baseline(
    config: Expect, out: Path, *, predictions: Path, images: Path, preprocess: Path | None = None
) -> dict[str, Any]:
    """Check the predictions of the FP32 baseline: the order of its labels, whether it learnt anything, and its accuracy.

    `predictions` is its `predict` stage, `preprocess` the `check_preprocess` of a user's checkpoint (None: trained here).
    Raises ValueError if the labels are not in the order of the outputs, if the baseline has learnt nothing, or if it is far
    below `config.top1`. If it reaches `config.top1`, the first two are notes instead.
    """
    dataset = json.loads((images / "dataset.json").read_text())
    found = read_predictions(predictions)
    if not dataset["labelled"]:
        if config.top1 is not None:
            raise ValueError(f"--expect-top1 needs labelled images and DATA {dataset['name']} has no labels; leave it out")
        return {"notes": unlabelled(found, dataset)}
    knowledge = knowledge_of(found.first, found.labels)
    reached = config.top1 is None or 100 * knowledge.top1 >= lowest(config.top1, config.tolerance, knowledge.n)
    order = wrong_order(found, dataset["classes"]) if preprocess is not None else ""
    if not reached:
        raise ValueError(order or f"{accuracy(knowledge)}, expected {config.top1:g} %: {advice(dataset, preprocess)}")
    problem = order or nothing_shown(knowledge, dataset, preprocess)
    if not problem:
        return {"notes": below_constant(knowledge, found, dataset["classes"])}
    if config.top1 is None:
        raise ValueError(f"{problem}; if that is correct, confirm with --expect-top1 {100 * knowledge.top1:.0f}")
    return {"notes": [f"Confirmed with --expect-top1 {config.top1:g}: {problem}."]}


def nothing_shown(knowledge: Knowledge, dataset: dict[str, Any], preprocess: Path | None) -> str:
    """Why the predictions show no accuracy; "" if they do."""
    classes = dataset["classes"]
    if knowledge.majority_share == 1:
        only = quoted(classes, knowledge.majority)
        return f"all {knowledge.n:,} test images are of class {only}, which shows no accuracy; pass images of every class"
    return f"{nothing_learnt(knowledge, classes)}: {advice(dataset, preprocess)}" if knowledge.learnt_nothing else ""


def lowest(top1: float, tolerance: float, n: int) -> float:
    """The lowest percentage that still counts as `top1` on n images."""
    share = top1 / 100
    return top1 - tolerance - 100 * float(ndtri(1 - SIGNIFICANCE)) * math.sqrt(share * (1 - share) / n)


def unlabelled(found: Predictions, dataset: dict[str, Any]) -> list[str]:
    """A note if the prediction is the same for all of a few images; ValueError if it is for many."""
    knowledge = knowledge_of(found.first, None)
    if not knowledge.constant:
        return []
    same = f"the FP32 baseline predicts {quoted(dataset['classes'], knowledge.predicted)} for all {knowledge.n:,} images"
    if knowledge.learnt_nothing:
        check = f"check the checkpoint and the preprocessing ({used(dataset)})"
        raise ValueError(f"{same}: a constant prediction cannot be compared; pass images of several classes, or {check}")
    return [f"{capitalized(same)}: agreement with it means little."]


def accuracy(knowledge: Knowledge) -> str:
    return f"the FP32 baseline gets {100 * knowledge.top1:.2f} % of {knowledge.n:,} images right"


def nothing_learnt(knowledge: Knowledge, classes: list[str]) -> str:
    """The baseline's accuracy, and the simple prediction that is as good."""
    favourite, majority = quoted(classes, knowledge.predicted), quoted(classes, knowledge.majority)
    always = f"always predicting {majority} ({100 * knowledge.majority_share:.1f} % of the images)"
    if knowledge.constant:
        return f"the FP32 baseline predicts {favourite} for all {knowledge.n:,} images, no better than {always}"
    even = knowledge.majority_share <= 1.5 / len(classes)
    as_good = f"random guessing among {len(classes)} classes" if even else always
    most = f"it predicts {favourite} for {100 * knowledge.predicted_share:.1f} % of them"
    return f"{accuracy(knowledge)}, no better than {as_good}; {most}"


def below_constant(knowledge: Knowledge, found: Predictions, classes: list[str]) -> list[str]:
    """A note if a constant prediction gets significantly more images right, or if the baseline's own prediction is constant."""
    if knowledge.constant:
        same = f"the FP32 baseline predicts {quoted(classes, knowledge.predicted)} for all {knowledge.n:,} images"
        few = "these are too few images, or too many of one class, to show whether it can distinguish the classes"
        return [f"{capitalized(same)}: {few}."]
    constant = found.labels == knowledge.majority
    if sign_test(constant, found.first == found.labels) > SIGNIFICANCE:
        return []
    always = f"always predicting {quoted(classes, knowledge.majority)} would get {100 * knowledge.majority_share:.2f} %"
    check = "It does distinguish the classes: check the recall of every class, too."
    return [f"{capitalized(accuracy(knowledge))}; {always}. {check}"]


def wrong_order(found: Predictions, classes: list[str]) -> str:
    """The accuracy with another order of the classes, and what to do about it; "" if no other order is far better."""
    better = better_order(classes, found.first, found.labels)
    if better is None:
        return ""
    now = f"the FP32 baseline gets {100 * better.now:.1f} % of {len(found.labels):,} images right"
    if better.name:
        order = f"the classes in {better.name} order"
        what = f"the labels are not in the order of the network's outputs: {now}, with {order} it gets"
    else:
        what = f"the labels seem permuted: {now}, with {exchanged(classes, better.classes)} exchanged it gets"
    return (
        f"{what} {100 * better.top1:.1f} %: write labels.txt beside the checkpoint with one class a line in the order of the "
        f"outputs ({some(better.classes, SHOWN)})"
    )


def exchanged(classes: list[str], order: list[str]) -> str:
    """The classes whose outputs change places: "'cat' and 'dog'"."""
    moved = [repr(name) for name, other in zip(classes, order, strict=True) if name != other]
    if len(moved) > SHOWN:
        return f"{', '.join(moved[:SHOWN])} and {len(moved) - SHOWN} other classes"
    return joined(moved)


def advice(dataset: dict[str, Any], preprocess: Path | None) -> str:
    """What to check: what `check_preprocess` found, if it found something. None: the baseline was trained here."""
    if preprocess is None:
        return "train it longer (train.epochs) or with another learning rate (train.lr), or check the labels of the images"
    if found := json.loads((preprocess / "fit.json").read_text())["advice"]:
        return f"preprocessing mismatch? {found}"
    return (
        "preprocessing mismatch? Check --mean, --std, --input-size, --resize, --crop-pct, --interpolation, --channels, "
        f"--channel-order ({used(dataset)}) and the order of the classes (labels.txt beside the checkpoint)"
    )


def used(dataset: dict[str, Any]) -> str:
    return "used: " + ", ".join(f"{key} {value}" for key, value in dataset["preprocess"].items())


def quoted(classes: list[str], index: int | None) -> str:
    assert index is not None
    return repr(classes[index]) if index < len(classes) else f"output {index}"


def capitalized(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
