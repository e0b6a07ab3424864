"""A search over levels that trains nothing: a test says what its levels lose."""

from types import SimpleNamespace
from typing import Any

from core.cache import Artifact
from measure.verdict import Drop
from pipeline import levels
from reports.level import Level


def level_of(name: str, share: float, epochs: float, drop: Drop) -> Level:
    return Level(name=name, share=share, macs=100 * share, epochs=epochs, drop=drop)


class Untrained(levels.Levels):
    """`level` and `trained` are those of the test."""

    def __init__(self, recipe: Any, step: Any, base: Any, plan: Any) -> None:
        self.recipe, self.step, self.base, self.plan = recipe, step, base, plan
        self.whole, self.tried, self.networks, self.notes = 100.0, {}, {}, []
        smaller: Any = SimpleNamespace(macs=self.macs, choose_first=lambda start: None)
        self.smaller = smaller

    def tell(self) -> None:
        pass

    def macs(self, model: Artifact) -> float:
        return 100.0
