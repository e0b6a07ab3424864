"""The content of a checkpoint file -> the learning rate that its own training began with, if an optimizer's state says it."""

import math
from collections.abc import Iterator
from typing import Any

from models.content import is_optimizer


def initial_lr(content: Any) -> float | None:
    """The highest initial learning rate of SGD; None if the file does not say it.

    Only what a scheduler of torch noted as "initial_lr" counts, because "lr" is the last rate and may be almost zero. The rates
    of other optimizers (Adam) are on another scale.
    """
    groups = (group for state in optimizers(content) for group in state["param_groups"])
    rates = [group.get("initial_lr") for group in groups if isinstance(group, dict) and "nesterov" in group]
    return max((float(r) for r in rates if isinstance(r, int | float) and 0 < r < math.inf), default=None)


def optimizers(value: Any) -> Iterator[dict[str, Any]]:
    """The states of optimizers in `value`, at any depth of dictionaries and lists."""
    if isinstance(value, dict) and is_optimizer(value):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from optimizers(inside)
