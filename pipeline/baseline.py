"""The images, and the FP32 baseline that all engines are compared with: the user's checkpoint, or a network trained here."""

from collections.abc import Iterable
from pathlib import Path

from compress.features import features
from compress.follow import Described
from compress.train import train
from compress.transfer import transfer
from core.cache import Artifact, Stages
from core.console import console
from data.duplicates import check_images
from data.index import fingerprint, index
from data.loader import Split
from measure.judge import judge_of
from measure.power import forecast_notes, power_notes
from models.checkpoint import load_checkpoint
from models.sidecar import content_beside
from pipeline.follow import follow
from pipeline.gates import check_classes
from pipeline.plan import check_possible
from pipeline.recipe import Recipe


def baseline_of(
    recipe: Recipe, step: Stages, variants: Iterable[Recipe] = (), trainings: Described = ("train", "distill")
) -> tuple[Recipe, Artifact, Artifact, Artifact]:
    """The recipe with training that follows the images, the images, the check of the test images, the baseline's checkpoint.

    `trainings` are the stages that this run trains if there is no checkpoint.

    Raises ValueError, before anything is trained, if all images are of one class, a budget of the `variants` is impossible,
    or the gate is of a class that the images do not have.
    """
    if recipe.checkpoint is None:
        images = images_of(recipe, step)
        if len(classes := images.metrics["classes"]) == 1:
            raise ValueError(
                f"all images of DATA {images.metrics['name']} are of one class, {classes[0]!r}; expected at least two classes"
            )
        for variant in variants:
            check_possible(variant, step, images)
        counted = checked(recipe, step, images)
        recipe = follow(recipe, step, images, trainings)
        return recipe, images, counted, step(train, recipe.train, images=images)
    images, known = checkpoint_of(recipe, step)
    counted = checked(recipe, step, images)
    return follow(recipe, step, images, ("distill",), known), images, counted, known


def checked(recipe: Recipe, step: Stages, images: Artifact) -> Artifact:
    """The test images that count in a verdict. Problems with them are printed now, before hours of training.

    Raises ValueError if the gate is of a class that the images do not have.
    """
    check_classes(recipe.gate.recall, images.metrics["name"], images.metrics["classes"])
    found = step(check_images, recipe.check_images, images=images)
    judge = judge_of(recipe.gate, images.path, found.path, "test")
    power = power_notes(judge, Split(images.path, "test").labels)
    for note in (*found.metrics["notes"], *power, *forecast_notes(found.metrics["counted"], recipe.gate.max_drop)):
        console.print(f"· {note}", markup=False)
    return found


def images_of(recipe: Recipe, step: Stages) -> Artifact:
    """The images alone, preprocessed for the user's checkpoint if there is one."""
    if recipe.checkpoint is None:
        return step(index, recipe.data, context=fingerprint(recipe.data))
    return checkpoint_of(recipe, step)[0]


def checkpoint_of(recipe: Recipe, step: Stages, new_classes: bool = False) -> tuple[Artifact, Artifact]:
    """The images, preprocessed for the user's checkpoint, and the checkpoint.

    `new_classes`: the images show other classes than those of the checkpoint.
    """
    assert recipe.checkpoint is not None
    known = step(load_checkpoint, recipe.load, context=content_beside(recipe.checkpoint), checkpoint=recipe.checkpoint)
    config = recipe.data.model_copy(update={"new_classes": new_classes})
    return step(index, config, context=fingerprint(recipe.data), network=known), known


def learn(recipe: Recipe, step: Stages, extract: bool) -> Path:
    """Train only the baseline. With a checkpoint, train it on the classes of the data, or only `extract` its features."""
    if recipe.checkpoint is None:
        return baseline_of(recipe, step, trainings=("train",))[-1].path / "model.safetensors"
    images, known = checkpoint_of(recipe, step, new_classes=True)
    if extract:
        return step(features, recipe.features, model=known, images=images).path / "features.npz"
    recipe = follow(recipe, step, images, ("transfer",), known)
    return step(transfer, recipe.transfer, model=known, images=images).path / "model.safetensors"
