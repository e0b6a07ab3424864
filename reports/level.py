"""A level of the search for a smaller network, as the search and as the report have it."""

from measure.verdict import Drop, Part, Verdict


class Level(Part):
    """A network that the search over levels tried, in FP32.

    share    of the baseline's MACs
    epochs   of training after it was pruned from the level before
    drop     on the images that choose
    by       how it was made: "blocks" (fewer blocks), an allocation of the pruning among the layers, or "student" (derived)
    ships    an engine of it ships; known when there is a report
    """

    name: str
    share: float
    macs: float
    epochs: float
    drop: Drop
    by: str = ""
    ships: bool = False

    @property
    def verdict(self) -> Verdict:
        return self.drop.verdict
