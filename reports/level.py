"""A level of the search for a smaller network, as the search and as the report have it."""

from dataclasses import dataclass

from measure.verdict import Drop, Part, Verdict


@dataclass(frozen=True)
class Level:
    """A network that the search over levels tried, in FP32.

    share    of the baseline's MACs
    epochs   of training after it was pruned from the level before
    drop     on the images that choose
    by       how it was made: "blocks" (fewer blocks), an allocation of the pruning among the layers, or "student" (derived)
    """

    name: str
    share: float
    macs: float
    epochs: float
    drop: Drop
    by: str = ""

    @property
    def verdict(self) -> Verdict:
        return self.drop.verdict


class LevelTried(Part):
    """A network that the search over levels tried, in FP32: its `share` of the baseline's MACs, the epochs it was trained for,
    and its drop on the images that choose. `by`: "blocks" (fewer blocks), how pruning was divided among the layers, or
    "student" (derived). `ships`: an engine of it ships."""

    name: str
    share: float
    macs: float
    epochs: float
    drop: Drop
    by: str = ""
    ships: bool = False
