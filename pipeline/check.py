"""Checks of the baseline before hours are spent on the student. Each is a stage with notes for the report."""

from typing import Any

from core.cache import Artifact, Stages
from export import targets
from measure.expect import check_baseline
from measure.preprocess_fit import Fit, check_preprocess
from pipeline.builder import EngineBuilder
from pipeline.recipe import Recipe


def check(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact) -> None:
    """Check the preprocessing of a user's checkpoint, and the accuracy of the baseline.

    Raises ValueError if the accuracy is implausible (measure/expect.py).
    """
    given: dict[str, Any] = {}
    if recipe.checkpoint is not None:
        given["preprocess"] = step(check_preprocess, Fit(), model=teacher, images=images)
    reference = EngineBuilder.of(recipe, step, targets.REFERENCE, images)
    predictions = reference.predict(reference.baseline, reference.build(reference.baseline, teacher), "test")
    step(check_baseline, recipe.expect, predictions=predictions, images=images, **given)
