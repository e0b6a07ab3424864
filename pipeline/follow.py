"""A recipe + the images -> the recipe with the settings of training that neither it nor the user has made."""

from typing import Any

from compress.device import device_and_precision
from compress.follow import STAGES, Described, Follow, derive_schedule
from compress.schedule import VARIED, Schedule
from core.cache import Artifact, Stages
from core.console import console
from pipeline.recipe import Recipe

SETTINGS = ("epochs", "min_steps", "minutes", "batch_size", "lr", "augment", *VARIED)


def follow(recipe: Recipe, step: Stages, images: Artifact, described: Described, known: Artifact | None = None) -> Recipe:
    """`recipe` with training that follows the images (compress/follow.py). Says in one line how the `described` stages train.

    `known` is the user's checkpoint. Nothing changes where nothing is trained.
    """
    if not (recipe.finetune and images.metrics["trainable"]):
        return recipe
    given = {
        name: {key: value for key, value in made.items() if key in SETTINGS}
        for name in STAGES
        for made in [getattr(recipe, name).model_dump(mode="json", exclude_unset=True)]
    }
    config = Follow(
        given=given,
        described=described,
        flip=recipe.flip,
        rate=known.metrics["initial_lr"] if known else None,
        gpu=device_and_precision()[0].type == "cuda",
    )
    found = step(derive_schedule, config, images=images).metrics
    for note in found["notes"]:
        console.print(f"· {note}", markup=False)
    return recipe.model_copy(update={name: completed(getattr(recipe, name), found[name]) for name in STAGES})


def completed(schedule: Schedule, settings: dict[str, Any]) -> Schedule:
    return type(schedule)(**schedule.model_dump(exclude_unset=True) | settings)


def trained_as(recipe: Recipe, variant: Recipe) -> Recipe:
    """`variant` with the training of `recipe`: recipes of one run differ only in how they prune."""
    return variant.model_copy(update={name: getattr(recipe, name) for name in STAGES})
