"""The limits of a budget for a network or its INT8 engine, and their descriptions for the user."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from core.config import Config

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Measured = dict[str, float]  # params, macs, size@target (bytes), latency@target (ms), share@target (of the baseline's time)


class Budget(Config):
    """The limits for the network, or for its INT8 engine on a target; None and {} set no limit.

    max_size      bytes of the engine's file, by target
    max_latency   milliseconds, p50 of a single image, by target
    min_speedup   over the FP32 baseline on the same target, both timed in turns
    """

    max_params: Positive | None = None
    max_macs: Positive | None = None
    max_size: dict[str, Positive] = Field(default_factory=dict)
    max_latency: dict[str, Positive] = Field(default_factory=dict)
    min_speedup: dict[str, Positive] = Field(default_factory=dict)

    @property
    def limited(self) -> bool:
        return bool(self.limits())

    @property
    def targets(self) -> list[str]:
        """The targets that engines have to be built for."""
        return sorted({*self.max_size, *self.max_latency, *self.min_speedup})

    def limits(self) -> list["Limit"]:
        """All limits; a minimal speedup limits the share of the baseline's time."""
        own = (("params", self.max_params), ("macs", self.max_macs))
        return [
            *(Limit(key, most, f"{key}={most:,.0f}") for key, most in own if most is not None),
            *(Limit(f"size@{t}", most, f"size={most / 1e6:g}MB@{t}") for t, most in self.max_size.items()),
            *(Limit(f"latency@{t}", most, f"latency={most:g}ms@{t}") for t, most in self.max_latency.items()),
            *(Limit(f"share@{t}", 1 / least, f"speedup={least:g}@{t}") for t, least in self.min_speedup.items()),
        ]


@dataclass(frozen=True)
class Limit:
    """The measurement `key` must be at most `most`; `text` is the limit as the user writes it."""

    key: str
    most: float
    text: str

    @property
    def timed(self) -> bool:
        return self.key.startswith(("latency", "share"))

    @property
    def exact(self) -> bool:
        """Whether it is counted and not measured."""
        return "@" not in self.key

    def describe(self, found: Measured) -> str:
        """The measurement in `found` that this limit is about, in words."""
        kind, _, target = self.key.partition("@")
        value = found[self.key]
        words = {
            "size": f"{value / 1e6:.3g} MB on {target} (INT8, built here)",
            "latency": f"{value:.3g} ms on {target} (p50, INT8, measured here)",
            "share": f"a speedup of {1 / value:.3g} on {target} (p50, INT8 over the FP32 baseline, measured here)",
        }
        return words.get(kind, f"{value:,.0f} {kind}")


def unmet(limits: Sequence[Limit], found: Measured) -> list[Limit]:
    return [limit for limit in limits if found[limit.key] > limit.most]


class OutOfReach(ValueError):
    """No network that pruning can make meets the limits."""


def refuse(limits: Sequence[Limit], narrowest: Measured, arch: str, remedy: str = "allow more") -> None:
    """Raise OutOfReach with the lowest measurements possible, when even the narrowest network exceeds a limit."""
    if over := unmet(limits, narrowest):
        wanted, have = ",".join(limit.text for limit in over), ", ".join(limit.describe(narrowest) for limit in over)
        raise OutOfReach(f"BUDGET {wanted} cannot be met: at its smallest widths {arch} has {have}; {remedy}")
