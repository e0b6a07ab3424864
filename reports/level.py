"""A level of the search for a smaller network."""

from dataclasses import dataclass

from measure.verdict import Drop, Verdict


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
