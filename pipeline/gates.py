"""GATE from the command line -> the limits in the recipe's section gate; does the data have the classes that it names?"""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from core.text import joined, some

EXPECTED = "top1=1, recall:NAME=0.5, worst_class=2 or balanced=1, comma-separated, in percentage points"
KEYS = {"top1": "gate.max_drop", "worst_class": "gate.worst_class", "balanced": "gate.balanced"}
SHOWN = 10  # classes in a message


def gates_of(gate: str, max_drop: float | None, budget: dict[str, Any]) -> dict[str, Any]:
    """ "top1=1,recall:crack=0.5" -> {"gate.max_drop": 1.0, "gate.recall": {"crack": 0.5}}.

    `max_drop` and the drop in `budget` (limits_of in pipeline/options.py) are limits of top-1, too. If there is a `gate` and no
    limit of top-1, the default one is switched off: max_drop None. Raises ValueError for a part that cannot be read or comes
    twice, and where two limits of top-1 differ.
    """
    found = parsed(gate)
    said = {"MAX_DROP": max_drop, "BUDGET drop": budget.get("gate.max_drop"), "GATE top1": found.get("gate.max_drop")}
    given = {name: limit for name, limit in said.items() if limit is not None}
    if len(set(given.values())) > 1:
        words = joined([f"{name}={limit:g}" for name, limit in given.items()])
        raise ValueError(f"{words} are different limits of top-1; pass one of them")
    limit = next(iter(given.values()), None)
    return found | ({"gate.max_drop": limit} if given or found else {})


def parsed(gate: str) -> dict[str, Any]:
    """The keys of the recipe that `gate` itself names."""
    found: dict[str, Any] = {}
    recall: dict[str, float] = {}
    for part in filter(None, map(str.strip, gate.split(","))):
        name, _, text = (words.strip() for words in part.rpartition("="))
        kind, colon, label = (words.strip() for words in name.partition(":"))
        kind = kind.lower()
        if not (label if kind == "recall" else kind in KEYS and not colon):
            raise ValueError(f"GATE {part!r} is not understood; expected {EXPECTED}")
        limit = points_of(part, text)
        if kind == "worst_class" and not 0 <= limit < 100:
            raise ValueError(f"GATE {part!r}: the loss of the worst class is limited to 0 or more points, and less than 100")
        section, key = (recall, label) if label else (found, KEYS[kind])
        if key in section:
            raise ValueError(f"GATE {gate!r} has {name} twice; expected each limit once")
        section[key] = limit
    return found | ({"gate.recall": recall} if recall else {})


def points_of(part: str, text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"GATE {part!r}: {text!r} is not a number of percentage points; expected {EXPECTED}")
    return limit


def check_classes(recall: dict[str, float], data: str, classes: Sequence[str]) -> None:
    """ValueError for a limit of `recall` on a class that is not one of the `classes` of DATA `data`."""
    lower = {name.lower(): name for name in classes}
    for name in recall:
        if name in classes:
            continue
        near = [lower[found] for found in get_close_matches(name.lower(), lower)]
        known = f"the nearest: {', '.join(near)}" if near else f"its classes: {some(classes, SHOWN)}"
        raise ValueError(f"GATE recall:{name} is of a class that DATA {data} does not have; {known}")
