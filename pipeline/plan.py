"""BUDGET -> the widths that meet it, searched on engines that are built and timed before anything is trained."""

from compress.derive import derive_student
from compress.search import Search, search
from core.cache import Artifact, Stages
from export import targets
from pipeline.recipe import Recipe
from pipeline.student import Base
from pipeline.trial import trial


def plan(name: str, recipe: Recipe, step: Stages, base: Base) -> Artifact | None:
    """The widths that meet the budget; None without a budget. An impossible budget is refused before any training."""
    if not recipe.budget.limited:
        return None
    student = step(derive_student, recipe.student, teacher=base.teacher)
    options = {target: recipe.targets[target].model_dump(mode="json") for target in recipe.budget.targets}
    config = Search(budget=recipe.budget, prune=recipe.prune, targets=options, threads=recipe.measure.threads)
    machine = {target: [targets.get(target).platform(), targets.get(target).PLACEMENT] for target in recipe.budget.targets}
    return step(search, config, label=name, context=machine, model=student, images=base.images, baseline=base.baseline,
                trial=trial)  # fmt: skip
