"""The jobs of LAUNCH for one or several runs: first the baselines, then the students of all of them.

The jobs only fill the store of each run. Afterwards the command does the same work as without LAUNCH, finds the students there,
and builds and times their engines on its own machine. What is timed to choose a student is timed before, while no job runs.
"""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compress.derive import derive_student
from core.cache import Stages, locked
from pipeline.clock import clock_of
from pipeline.job import Job
from pipeline.launch import Launch
from pipeline.levels import hardest
from pipeline.minutes import Plan
from pipeline.page import of_levels, planned, press, start, unpruned
from pipeline.recipe import Recipe
from pipeline.smaller import Smaller
from pipeline.student import Base
from reports.run_folder import UNPRUNED, targets_before


@dataclass(frozen=True)
class Planned:
    """A run in the folder `out`; `sweep` as in pipeline/page.py `compress`."""

    name: str
    recipe: Recipe
    sweep: Mapping[str, Recipe]
    out: Path


def launch_students(runs: list[Planned], launch: Launch, logs: Path) -> None:
    """Train the students of the `runs` in jobs. What a run is refused for is said when the run itself comes to it."""
    launch.check_shared([path for run in runs for path in paths_of(run)])
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(locked(run.out))
            clock_of(run.recipe.minutes, Stages(run.out / "stages"), run.out)  # its time begins
        launch.run([Job(f"{run.name}, baseline", partial(start, run.recipe, stages(run), run.sweep)) for run in runs], logs)
        jobs: list[Job] = []
        for run in runs:
            with suppress(ValueError):
                jobs += jobs_of(run).values()
        launch.run(jobs, logs)


def train_student(run: Planned, variant: str) -> None:
    """Train one student of the sweep in this process, as a job does: others may do the same with other students meanwhile.

    Raises ValueError for a variant that is not in the sweep, and for all that the run itself refuses.
    """
    if variant not in run.sweep:
        raise ValueError(f"--student {variant!r}: expected one of SWEEP ({', '.join(run.sweep) or 'it is empty'})")
    jobs_of(run)[variant].work()


def paths_of(run: Planned) -> list[Path]:
    """What the machines of the jobs have to see."""
    data = Path(run.recipe.data.name)
    return [run.out, *([run.recipe.checkpoint] if run.recipe.checkpoint else []), *([data] if data.exists() else [])]


def stages(run: Planned) -> Stages:
    return Stages(run.out / "stages")


def jobs_of(run: Planned) -> dict[str, Job]:
    """A job for each student, by variant. Raises ValueError where the run is refused."""
    step = stages(run)
    clock = clock_of(run.recipe.minutes, step, run.out)
    begun = start(run.recipe, step, run.sweep)
    recipe, base = begun.recipe, begun.base
    if begun.searches:
        _, _, plan = unpruned(recipe, step, base, clock, targets_before(run.out))
        return {"": Job(f"{run.name}, search", partial(search, timed_before(recipe, step, base), step, base, plan))}
    variants, plans = planned(begun, step, clock)
    return {
        name: Job(f"{run.name}, student {name}".strip(), partial(press, name, variant, step, base, plans[name]))
        for name, variant in variants.items()
    }


def timed_before(recipe: Recipe, step: Stages, base: Base) -> Recipe:
    """`recipe` with what the search would time first: whether blocks or channels go."""
    smaller = Smaller(recipe, step, base)
    smaller.choose_first(step(derive_student, recipe.student, teacher=base.teacher))
    return recipe.model_copy(update={"levels": recipe.levels.model_copy(update={"first": smaller.first})})


def search(recipe: Recipe, step: Stages, base: Base, plan: Plan) -> None:
    """Find, train and export the networks of the search."""
    found = hardest(recipe, step, base, plan)
    of_levels({UNPRUNED: base.teacher, **found.networks}, recipe, step, base)
