"""Are the labels in the order of the network's outputs? Other plausible orders are tried on the baseline's predictions.

Frameworks number class folders differently: torchvision by the bytes of their names, timm without regard to case, others in
natural order ("crack_2" before "crack_10"). With an order that differs from training, nearly all accuracy is lost without
any error.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

from measure.knowledge import knowledge_of, sign_test

Classes = NDArray[np.int64]

# What another order must gain, as a fraction: of top-1, or of the recall of the classes that change places. Two classes of a
# hundred that are exchanged cost only two points.
GAIN, GAIN_OF_MOVED = 0.1, 0.3
SIGNIFICANCE = 0.001  # stricter than 5 %, because several orders are tried
MOST_CLASSES = 2000  # the time of the assignment grows with the third power of the classes


@dataclass(frozen=True)
class Better:
    """An order with a far better accuracy.

    name      of the rule that gives this order; "" if it was found by assignment
    classes   in the order of the outputs
    top1      with this order, as a fraction of the images
    now       with the present order, as a fraction of the images
    """

    name: str
    classes: list[str]
    top1: float
    now: float


def better_order(classes: list[str], predicted: Classes, labels: Classes) -> Better | None:
    """The plausible order of `classes` that fits the predictions [N] far better than the present one; None if there is none.

    If the best of all possible orders is again far better than the plausible ones, it is returned instead.
    """
    now = float(np.mean(predicted == labels))
    found = []
    for name, order in plausible_orders(classes).items():
        place = renumbered(classes, order)
        if fits_better(place, predicted, labels):
            found.append(Better(name, order, float(np.mean(place[predicted] == labels)), now))
    plausible = max(found, key=lambda better: better.top1, default=None)
    best = best_permutation(classes, predicted, labels)
    better = best if best and (plausible is None or best.top1 > plausible.top1 + GAIN) else plausible
    # A constant prediction gains from any order that maps it to the most frequent class; this is no better order.
    if better and knowledge_of(renumbered(classes, better.classes)[predicted], labels).learnt_nothing:
        return None
    return better


def plausible_orders(classes: list[str]) -> dict[str, list[str]]:
    """{name: order}, without the order of `classes` itself and without repetitions. For two classes also the reverse."""
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
    """Sort key: first the numbers in the name, then the name."""
    return [int(part) for part in re.findall(r"\d+", name)], name


def renumbered(classes: list[str], order: list[str]) -> Classes:
    """For each output of a network whose outputs are in `order`, the index of its class in `classes`."""
    place = {name: i for i, name in enumerate(classes)}
    return np.asarray([place[name] for name in order], np.int64)


def best_permutation(classes: list[str], predicted: Classes, labels: Classes) -> Better | None:
    """The order with the highest accuracy, if an order found on half of the images is also far better on the other half."""
    if len(classes) > MOST_CLASSES:
        return None
    place = assignment(len(classes), predicted[::2], labels[::2])
    if not fits_better(place, predicted[1::2], labels[1::2]):
        return None
    place = assignment(len(classes), predicted, labels)
    top1, now = float(np.mean(place[predicted] == labels)), float(np.mean(predicted == labels))
    return Better("", [classes[i] for i in place], top1, now)


def fits_better(place: Classes, predicted: Classes, labels: Classes) -> bool:
    """Whether far more of the predictions [N] are right if output i means the label `place`[i]."""
    hits, before = place[predicted] == labels, predicted == labels
    if sign_test(hits, before) > SIGNIFICANCE:
        return False
    gain = hits.astype(float) - before
    moved = np.isin(labels, np.flatnonzero(place != np.arange(len(place))))
    return bool(gain.mean() > GAIN or gain[moved].mean() > GAIN_OF_MOVED)


def assignment(count: int, predicted: Classes, labels: Classes) -> Classes:
    """For each output the label that it is assigned to; outputs without any image keep their label."""
    confusion = np.zeros((count, count))
    np.add.at(confusion, (predicted, labels), 1.0)
    rows, columns = linear_sum_assignment(confusion + 1e-6 * np.eye(count), maximize=True)
    place = np.arange(count)
    place[rows] = columns
    return place
