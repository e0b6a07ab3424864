"""MINUTES: the time that a run has, less the time of its stages.

The time left is counted from the stages on disk and not from the clock of this process. So an interrupted run continues with
what is left, and a finished run, repeated, decides the same and finds everything in the cache.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from core.cache import Stages
from core.environment import now

FILE = "minutes.json"


@dataclass(frozen=True)
class Clock:
    """`minutes` for the stages of `step` that finished after `begun` (ISO 8601, UTC)."""

    minutes: float
    begun: str
    step: Stages

    @property
    def spent(self) -> float:
        """Seconds. Stages that were in the cache when the run began took none of its time."""
        return sum(float(stage.manifest["seconds"]) for stage in self.step.used if stage.manifest["created"] >= self.begun)

    @property
    def left(self) -> float:
        """Seconds; negative when the time is up."""
        return 60 * self.minutes - self.spent


def clock_of(minutes: float | None, step: Stages, out: Path) -> Clock | None:
    """The clock of a run in `out` that has so many `minutes`; None without a limit. The first such run begins it."""
    if minutes is None:
        return None
    file = out / FILE
    begun: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    if f"{minutes:g}" not in begun:
        begun[f"{minutes:g}"] = now()
        file.write_text(json.dumps(begun))
    return Clock(minutes, begun[f"{minutes:g}"], step)
