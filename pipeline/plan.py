"""BUDGET -> the widths that meet it, searched on engines that are built and timed before the student is trained."""

from collections.abc import Iterable
from typing import Any

from compress.derive import derive_student
from compress.possible import Possible, possible
from compress.search import Search, search
from core.cache import Artifact, Stages
from export import targets
from pipeline.recipe import Recipe
from pipeline.student import Base
from pipeline.trial import size, trial


def check_possible(recipe: Recipe, step: Stages, images: Artifact) -> None:
    """Refuse a budget that not even the narrowest student meets, before a baseline is trained."""
    if all(limit.timed for limit in recipe.budget.limits()) or not images.metrics["trainable"]:
        return
    options = {target: recipe.targets[target].model_dump(mode="json") for target in recipe.budget.max_size}
    config = Possible(
        **recipe.train.model_dump(include={"arch", "source", "stem", "shortcut"}), student=recipe.student, budget=recipe.budget,
        prune=recipe.prune, targets=options,
    )  # fmt: skip
    step(possible, config, context=machines(recipe, recipe.budget.max_size), images=images, size=size)


def plan(name: str, recipe: Recipe, step: Stages, base: Base) -> Artifact | None:
    """The widths that meet the budget; None without a budget. An impossible budget is refused before the student is trained."""
    if not recipe.budget.limited:
        return None
    student = step(derive_student, recipe.student, teacher=base.teacher)
    options = {target: recipe.targets[target].model_dump(mode="json") for target in recipe.budget.targets}
    config = Search(budget=recipe.budget, prune=recipe.prune, targets=options, threads=recipe.measure.threads)
    context = machines(recipe, recipe.budget.targets)
    return step(search, config, label=name, context=context, model=student, images=base.images, baseline=base.baseline,
                trial=trial)  # fmt: skip


def machines(recipe: Recipe, limited: Iterable[str]) -> dict[str, Any]:
    """What the engines of the `limited` targets depend on besides their options."""
    found = {}
    for name in limited:
        target, profile = targets.get(name), recipe.targets[name].profile
        found[name] = [target.platform(), target.placement(profile)]
    return found
