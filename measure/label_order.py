"""Are the labels in the order of the network's outputs? Other plausible orders are tried on the baseline's own predictions.

Frameworks number class folders differently: torchvision by the bytes of their names, timm without regard to case, others in
natural order ("crack_2" before "crack_10"). Another order than that of training costs nearly all accuracy, silently.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

from measure.knowledge import knowledge_of, sign_test

Classes = NDArray[np.int64]

GAIN = 0.1  # of top-1, what another order must win
SIGNIFICANCE = 0.001  # several orders are tried
MOST_CLASSES = 2000  # of the assignment, whose time grows with the third power


@dataclass(frozen=True)
class Better:
    """An order that fits better: `classes` by output; `name` is "" for one that no rule gives.

    `top1` of it, and `now` of the present one, are shares of the images.
    """

    name: str
    classes: list[str]
    top1: float
    now: float


def better_order(classes: list[str], predicted: Classes, labels: Classes) -> Better | None:
    """The plausible order of `classes` that fits the predictions [N] far better than the present one; None where none does.

    Where the best of all orders is far better still, it is that one.
    """
    now = float(np.mean(predicted == labels))
    found = []
    for name, order in plausible_orders(classes).items():
        hits = renumbered(classes, order)[predicted] == labels
        if hits.mean() - now > GAIN and sign_test(hits, predicted == labels) <= SIGNIFICANCE:
            found.append(Better(name, order, float(hits.mean()), now))
    plausible = max(found, key=lambda better: better.top1, default=None)
    best = best_permutation(classes, predicted, labels)
    better = best if best and (plausible is None or best.top1 > plausible.top1 + GAIN) else plausible
    # A constant, or a guess, wins by an order that makes it the majority's.
    if better and knowledge_of(renumbered(classes, better.classes)[predicted], labels).learnt_nothing:
        return None
    return better


def plausible_orders(classes: list[str]) -> dict[str, list[str]]:
    """Orders by name, without that of `classes` itself and without repetitions. Two classes may also be exchanged."""
    orders = {
        "byte": sorted(classes, key=lambda name: name.encode(errors="surrogateescape")),
        "natural": sorted(classes, key=natural),
        "numeric": sorted(classes, key=numbers),
        "case-blind": sorted(classes, key=str.casefold),
    }
    if len(classes) == 2:
        orders["reverse"] = classes[::-1]
    found: dict[str, list[str]] = {}
    for name, order in orders.items():
        if order != classes and order not in found.values():
            found[name] = order
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """Digits count as numbers, letters without their case: "crack_2" before "Crack_10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()) if part]


def numbers(name: str) -> tuple[list[int], str]:
    """By the numbers in the name alone, then by the name."""
    return [int(part) for part in re.findall(r"\d+", name)], name


def renumbered(classes: list[str], order: list[str]) -> Classes:
    """For each output of a network whose outputs mean `order`, the index in `classes`."""
    place = {name: i for i, name in enumerate(classes)}
    return np.asarray([place[name] for name in order], np.int64)


def best_permutation(classes: list[str], predicted: Classes, labels: Classes) -> Better | None:
    """The order with the most images right, if it also is far better on images that it was not found on."""
    if len(classes) > MOST_CLASSES:
        return None
    place = assignment(len(classes), predicted[::2], labels[::2])
    unseen = predicted[1::2], labels[1::2]
    hits, before = place[unseen[0]] == unseen[1], unseen[0] == unseen[1]
    if not len(hits) or hits.mean() - before.mean() <= GAIN or sign_test(hits, before) > SIGNIFICANCE:
        return None
    place = assignment(len(classes), predicted, labels)
    top1, now = float(np.mean(place[predicted] == labels)), float(np.mean(predicted == labels))
    return Better("", [classes[i] for i in place], top1, now)


def assignment(count: int, predicted: Classes, labels: Classes) -> Classes:
    """For each output the label that it is assigned to; outputs that no image speaks for keep their own."""
    confusion = np.zeros((count, count))
    np.add.at(confusion, (predicted, labels), 1.0)
    rows, columns = linear_sum_assignment(confusion + 1e-6 * np.eye(count), maximize=True)
    place = np.arange(count)
    place[rows] = columns
    return place
