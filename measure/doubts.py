"""Reasons not to believe a small drop: the images do not show that the engine works. Classes [N] -> the doubts.

An engine that returns the same class for every image loses hardly any top-1 where hardly any image is of another class, and a
baseline that only guesses has no accuracy to lose. With any doubt, an engine does not pass.
"""

import numpy as np

from measure.knowledge import knowledge_of
from measure.predictions import Classes
from measure.verdict import Doubt

MUCH_BETTER = 5.0  # points


def doubts_of(truth: Classes, before: Classes, after: Classes) -> list[Doubt]:
    """Doubts about the predictions of a baseline (`before`) and of a candidate (`after`)."""
    if is_constant(truth):
        return ["one_class"]
    found: list[Doubt] = []
    if knowledge_of(before, truth).learnt_nothing:
        found.append("chance")
    if is_constant(after):
        found.append("constant")
    return found


def is_constant(classes: Classes) -> bool:
    return bool(np.all(classes == classes[0]))


def is_far_better(points: float, upper_95: float) -> bool:
    """Whether a drop of so many points is a gain that no compression makes."""
    return points < -MUCH_BETTER and upper_95 < 0
