"""Values -> an axis with round ticks; positions are in percent of its length, so a figure fits every width of the page."""

import math
from collections.abc import Sequence

from measure.verdict import Part
from reports.chart import Tick, step_of

LOGARITHMIC = 10  # the axis of latencies is logarithmic if largest / smallest is above this


class Axis(Part):
    """`values` are the round numbers of its ticks, the first and the last at its ends."""

    values: list[float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The place of `value` in percent of the axis; at its ends for values outside."""
        low, high = self.values[0], self.values[-1]
        share = math.log(value / low) / math.log(high / low) if self.logarithmic else (value - low) / (high - low)
        return round(100 * min(1.0, max(0.0, share)), 4)

    @property
    def ticks(self) -> list[Tick]:
        return [Tick(at=self.at(value), text=f"{value:,g}") for value in self.values]


def linear(values: Sequence[float]) -> Axis:
    return Axis(values=rounds(min(values), max(values)))


def of_latencies(milliseconds: Sequence[float]) -> Axis:
    """From 0, or logarithmic."""
    low, high = min(milliseconds), max(milliseconds)
    if low > 0 and high / low > LOGARITHMIC:
        return Axis(values=decades(low, high), logarithmic=True)
    return Axis(values=rounds(0, high))


def of_norms(norms: Sequence[float]) -> Axis:
    """Logarithmic, with powers of ten; the norms are above 0."""
    first, last = math.floor(math.log10(min(norms))), math.ceil(math.log10(max(norms)))
    return Axis(values=[float(f"1e{power}") for power in range(first, max(last, first + 1) + 1)], logarithmic=True)


def rounds(low: float, high: float) -> list[float]:
    """Round values, evenly spaced, from `low` or just below to `high` or just above: two to six of them."""
    step = step_of(max(high - low, 0.1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 9) for i in range(first - (first == last), last + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … times a power of ten, from the last not above `low` (> 0) to the first not below `high`."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    values = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first = max(i for i, value in enumerate(values) if value <= low)
    last = min(i for i, value in enumerate(values) if value >= high)
    return values[first : last + 1]
