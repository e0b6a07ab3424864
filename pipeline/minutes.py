"""How the time of a search is divided: the short trainings of the levels, the whole training, and the engines."""

import datetime
from dataclasses import dataclass
from typing import Any

from compress.distill import Distill
from pipeline.clock import Clock
from pipeline.recipe import Recipe

LEVELS = 0.4  # of the time for training goes to the short trainings of the levels
AHEAD = 3  # a level gets a third of the time that the levels have left, more where fewer levels are left
FIRST = 0.75  # of the time that is left after them goes to the first level that is trained whole, if there are milder ones
STUDENT = 0.75  # of the time that is left trains the students, where there is no search
SHORTEST = 30.0  # seconds that the training of a student has there at least
LEAST = 20.0  # seconds: a shorter training is not worth its start
TENTH = 10  # the short training has a tenth of the epochs


@dataclass(frozen=True)
class Plan:
    """The plan of a search. Without MINUTES there is no `clock`.

    engines    seconds to keep for the engines of what the search finds
    training   seconds that were left for training when the search began
    """

    clock: Clock | None = None
    engines: float = 0.0
    training: float = 0.0

    @classmethod
    def of(cls, clock: Clock | None, engines: float) -> "Plan":
        return cls(clock, engines, max(0.0, clock.left - engines) if clock else 0.0)

    @property
    def left(self) -> float:
        """Seconds that are left for training."""
        return self.clock.left - self.engines if self.clock else 0.0

    @property
    def limit(self) -> str:
        return f"MINUTES={self.clock.minutes:g}" if self.clock else ""

    def is_over(self, tried: int) -> bool:
        """Whether the time of the levels is over, of which `tried` were tried. There is one if there is any time."""
        if self.clock is None:
            return False
        return self.left < ((1 - LEVELS) * self.training if tried else LEAST)

    def short(self, recipe: Recipe, tried: int) -> Distill:
        """The short training of the next level, of which `tried` were tried before."""
        config = recipe.distill.model_copy(update={"epochs": short_epochs(recipe), "minutes": None})
        if self.clock is None:
            return config
        of_levels = self.left - (1 - LEVELS) * self.training
        levels = max(1, min(AHEAD, len(recipe.levels.shares) - tried))
        return config.model_copy(update={"most_minutes": minutes(max(LEAST, of_levels / levels))})

    def long(self, recipe: Recipe, others: bool) -> Distill | None:
        """The whole training of a level; None where there is no time for it. `others`: milder levels may need time, too."""
        if self.clock is None:
            return recipe.distill
        seconds = self.left * (FIRST if others else 1.0)
        return None if seconds < LEAST else recipe.distill.model_copy(update={"minutes": minutes(seconds)})

    def text(self, recipe: Recipe, pace: dict[str, Any]) -> str:
        """What the search will train, and how long that takes. `pace`: see compress/pace.py."""
        epoch, short = pace["seconds_per_epoch"] / 60, short_epochs(recipe)
        epochs = max(recipe.distill.epochs, -(-recipe.distill.min_steps // pace["steps"]))
        shares = recipe.levels.shares
        trained = f"at most {len(shares)} levels of {counted(short)}, then {counted(epochs)} for the one that is taken"
        speed = f"{pace['images_per_second']:,.0f} images/s and {epoch:.2g} min an epoch at full width"
        if self.clock is None:
            most = epoch * (short * sum(shares) + epochs * max(shares, default=0))
            return f"plan: {trained}; {speed}, so at most about {most:.0f} min of training"
        ends = datetime.datetime.now() + datetime.timedelta(seconds=max(0.0, self.clock.left))
        return (
            f"plan: {trained}; {speed}. {self.limit}: {self.clock.spent / 60:.1f} min are spent, the levels get "
            f"{LEVELS * self.training / 60:.1f}, the one that is taken {(1 - LEVELS) * self.training / 60:.1f}, the engines "
            f"{self.engines / 60:.1f}; the run ends by {ends:%H:%M}"
        )


def within(clock: Clock | None, recipe: Recipe, students: int) -> Recipe:
    """`recipe` with a training that leaves time for the engines; `students` share the time."""
    if clock is None:
        return recipe
    seconds = max(SHORTEST, STUDENT * clock.left / students)
    return recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"minutes": minutes(seconds)})})


def short_epochs(recipe: Recipe) -> int:
    return max(recipe.levels.epochs, round(recipe.distill.epochs / TENTH))


def minutes(seconds: float) -> float:
    return round(seconds / 60, 3)


def counted(epochs: int) -> str:
    return f"{epochs} epoch{'s' * (epochs != 1)}"
