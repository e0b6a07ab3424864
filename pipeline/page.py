"""The whole pipeline on one page. Every line is a stage; a variable is what it left on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from calibration.observe import observe
from compress.derive import derive_student
from compress.distill import distill
from compress.features import features
from compress.prune import prune
from compress.prune_sensitivity import sensitivity
from compress.quantize_aware import quantize_aware
from compress.search import Search, search
from compress.train import train
from compress.transfer import transfer
from core.cache import Artifact, Stages
from data.index import fingerprint, index
from export import targets
from export.onnx import export_onnx
from measure.expect import check
from models.checkpoint import load_checkpoint
from models.sidecar import told_beside
from pipeline.engines import Workshop
from pipeline.ladder import climb, misses
from pipeline.recipe import Recipe, check_trainable
from pipeline.student import Student
from pipeline.trial import check_targets, trial


def baseline_of(recipe: Recipe, step: Stages) -> tuple[Artifact, Artifact]:
    """The images, and the FP32 network everything is compared with: the user's checkpoint, or one trained here."""
    if recipe.checkpoint is None:
        images = images_of(recipe, step)
        return images, step(train, recipe.train, images=images)
    return checkpoint_of(recipe, step)


def images_of(recipe: Recipe, step: Stages) -> Artifact:
    """The images alone, as the user's checkpoint expects them where there is one."""
    if recipe.checkpoint is None:
        return step(index, recipe.data, context=fingerprint(recipe.data))
    return checkpoint_of(recipe, step)[0]


def checkpoint_of(recipe: Recipe, step: Stages, new_classes: bool = False) -> tuple[Artifact, Artifact]:
    """The images as the user's checkpoint expects them (`new_classes`: but for what they show), and the checkpoint."""
    assert recipe.checkpoint is not None
    known = step(load_checkpoint, recipe.load, context=told_beside(recipe.checkpoint), checkpoint=recipe.checkpoint)
    config = recipe.data.model_copy(update={"new_classes": new_classes})
    return step(index, config, context=fingerprint(recipe.data), network=known), known


def learn(recipe: Recipe, step: Stages, extract: bool) -> Path:
    """Train the baseline alone; from a checkpoint, teach it the classes of the data, or only `extract` its features."""
    if recipe.checkpoint is None:
        return baseline_of(recipe, step)[1].path / "model.safetensors"
    images, known = checkpoint_of(recipe, step, new_classes=True)
    if extract:
        return step(features, recipe.features, model=known, images=images).path / "features.npz"
    return step(transfer, recipe.transfer, model=known, images=images).path / "model.safetensors"


def planned(
    label: str, recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, baseline: Artifact
) -> Artifact | None:
    """The widths that meet the budget, None where there is none: an impossible one is refused before anything is trained."""
    if not recipe.budget.limited:
        return None
    student = step(derive_student, recipe.student, teacher=teacher)
    options = {name: recipe.targets[name].model_dump(mode="json") for name in recipe.budget.targets}
    config = Search(budget=recipe.budget, prune=recipe.prune, targets=options, threads=recipe.measure.threads)
    machine = {name: targets.get(name).platform() for name in recipe.budget.targets}
    return step(search, config, label=label, context=machine, model=student, images=images, baseline=baseline, trial=trial)


def pressed(label: str, recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, plan: Artifact | None) -> Artifact:
    """The student: fewer blocks, fewer channels, trained to answer like the teacher. The teacher where nothing is trained."""
    if not (recipe.finetune and images.metrics["trainable"]):
        return teacher
    student = step(derive_student, recipe.student, teacher=teacher)
    if recipe.sensitivity.images:
        step(sensitivity, recipe.sensitivity, model=student, images=images)
    plans: dict[str, Any] = {"plan": plan} if plan else {}
    pruned = step(prune, recipe.prune, label=label, model=student, images=images, **plans)
    distilled = step(distill, recipe.distill, label=label, student=pruned, teacher=teacher, images=images)
    if recipe.quantize_aware.epochs:
        config = recipe.quantize_aware
        distilled = step(quantize_aware, config, label=label, student=distilled, teacher=teacher, images=images)
    return distilled


def compress(recipe: Recipe, step: Stages, sweep: Mapping[str, Recipe] | None = None) -> Iterator[dict[str, Any]]:
    """Run the pipeline; yield, per target, what the report needs to find what the stages left.

    `sweep`: recipes by label that differ from `recipe` in how they prune; every one makes a student, and the best ships.
    """
    wanted = sweep or {"": recipe}
    for one in wanted.values():
        check_targets(one.budget, list(one.targets))
    images, teacher = baseline_of(recipe, step)
    for one in wanted.values():
        check_trainable(one, images.metrics, bool(sweep))
    # What can fail, fails before hours are spent on the student.
    if recipe.checkpoint is not None:
        check(recipe.expect, answers_of_reference(recipe, step, images, teacher), images.path)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    plans = {label: planned(label, one, step, images, teacher, baseline) for label, one in wanted.items()}
    students = [student_of(label, one, step, images, teacher, baseline, plans[label]) for label, one in wanted.items()]
    shared = {"images": images, "baseline": baseline, "students": {student.label: student.onnx for student in students}}
    for name in recipe.targets:
        yield {**engines_of(Workshop(recipe, step, name, images), teacher, baseline, students), **shared}


def student_of(
    label: str, recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, baseline: Artifact, plan: Artifact | None
) -> Student:
    distilled = pressed(label, recipe, step, images, teacher, plan)
    said = f"student {label}".strip()
    onnx = baseline if distilled is teacher else step(export_onnx, recipe.export, label=said, model=distilled, images=images)
    ranges = step(observe, recipe.calibrate, label=label, model=onnx, images=images)
    trained_on = None
    if distilled is not teacher and not recipe.quantize_aware.epochs:
        trained_on = partial(quantization_aware, label, recipe, step, images, teacher, distilled)
    return Student(label, distilled, onnx, ranges, trained_on)


def engines_of(shop: Workshop, teacher: Artifact, baseline: Artifact, students: Sequence[Student]) -> dict[str, Any]:
    """The engines of one target, what they answered, how quick they are, and the bundle of the one that ships if it passes."""
    reason = shop.target.unavailable()
    if reason and shop.target.prepare is None:
        return {"target": shop.name, "unavailable": reason}
    if shop.target.READS == "checkpoint":
        baseline, students = teacher, [replace(student, onnx=student.checkpoint) for student in students]
    forms = {row: form for student in students for row, form in shop.forms(student).items()}  # what would ship, in float32
    if reason and forms:  # with nothing measured, the first of a sweep is as good as the others
        return {"target": shop.name, "unavailable": reason, "bundle": shop.pack_to_build(forms[students[0].row("int8")])}
    engines, refused = shop.build_all(shop.models(baseline, students, forms))
    if not engines or (forms and not small(engines)):
        return {"target": shop.name, "unavailable": next(reversed(refused.values()))}
    found: dict[str, Any] = {"target": shop.name, "engines": engines, "refused": refused}
    found["cannot_run"] = shop.target.cannot_run()
    if shop.runs:
        found["predictions"] = {row: shop.ask(row, engine) for row, engine in engines.items()}
        forms |= climb(shop, students, found)
        found["latency"] = shop.time(engines)
    if forms:
        found["candidate"] = candidate = candidate_of(shop, found)
        found["bundle"] = shop.pack(engines[candidate], forms[candidate])
    return found


def quantization_aware(
    label: str, recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, student: Artifact
) -> Student:
    """The student after it was trained on with 8-bit rounding."""
    config = recipe.quantize_aware.model_copy(update={"epochs": 1})
    trained = step(quantize_aware, config, student=student, teacher=teacher, images=images)
    onnx = step(export_onnx, recipe.export, label="quantization-aware", model=trained, images=images)
    return Student(label, trained, onnx, step(observe, recipe.calibrate, label="quantization-aware", model=onnx, images=images))


def small(engines: Mapping[str, Artifact]) -> list[str]:
    """The rows that could ship."""
    return [row for row in engines if row.startswith("student-") and not row.startswith("student-fp32")]


def candidate_of(shop: Workshop, found: dict[str, Any]) -> str:
    """The row that ships if it passes: the quickest that does; where none can be asked, what the target puts first."""
    rows = small(found["engines"])
    if not shop.runs:
        return next((row for row in rows if row.startswith(f"student-{shop.target.UNTIMED}")), rows[0])
    timed = found["latency"].metrics["timed"]
    passing = [row for row in rows if not misses(shop, found["predictions"], row)]
    return min(passing or rows, key=lambda row: float(timed[row]["p50"]))


def answers_of_reference(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact) -> dict[str, Any]:
    """The baseline's accuracy in PyTorch: the row that the report opens with, measured first."""
    shop = Workshop(recipe, step, targets.REFERENCE, images)
    return shop.ask("baseline-fp32", shop.build("baseline-fp32", teacher)).metrics
