"""The whole pipeline on one page. Every line is a stage; a variable is what it left on disk."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from calibration.observe import observe
from compress.derive import derive_student
from compress.distill import distill
from compress.features import features
from compress.prune import prune
from compress.quantize_aware import quantize_aware
from compress.search import Search, search
from compress.sensitivity import sensitivity
from compress.train import train
from compress.transfer import transfer
from data.index import fingerprint, index
from export import targets
from export.onnx import export_onnx
from models.checkpoint import load_checkpoint
from models.sidecar import told_beside
from pipeline.engines import Workshop
from pipeline.ladder import Network, climb, misses
from pipeline.recipe import Recipe, check_budget
from pipeline.stage import Artifact, Stages
from pipeline.trial import check_targets, trial
from reports.expect import check


def baseline_of(recipe: Recipe, step: Stages) -> tuple[Artifact, Artifact]:
    """The images, and the FP32 network everything is compared with: the user's checkpoint, or one trained here."""
    if recipe.checkpoint is None:
        images = step(index, recipe.data, context=fingerprint(recipe.data))
        return images, step(train, recipe.train, images=images)
    return checkpoint_of(recipe, step)


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


def pressed(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, baseline: Artifact) -> Artifact:
    """The student: fewer blocks, fewer channels, trained to answer like the teacher. The teacher where nothing is trained."""
    if not (recipe.finetune and images.metrics["trainable"]):
        return teacher
    student = step(derive_student, recipe.student, teacher=teacher)
    if recipe.sensitivity.images:
        step(sensitivity, recipe.sensitivity, model=student, images=images)
    plan: dict[str, Any] = {}
    if recipe.budget.limited:
        options = {name: recipe.targets[name].model_dump(mode="json") for name in recipe.budget.targets}
        config = Search(budget=recipe.budget, prune=recipe.prune, targets=options, threads=recipe.measure.threads)
        machine = {name: targets.get(name).platform() for name in recipe.budget.targets}
        plan = {"plan": step(search, config, context=machine, model=student, images=images, baseline=baseline, trial=trial)}
    pruned = step(prune, recipe.prune, model=student, images=images, **plan)
    distilled = step(distill, recipe.distill, student=pruned, teacher=teacher, images=images)
    if recipe.quantize_aware.epochs:
        distilled = step(quantize_aware, recipe.quantize_aware, student=distilled, teacher=teacher, images=images)
    return distilled


def compress(recipe: Recipe, step: Stages) -> Iterator[dict[str, Any]]:
    """Run the pipeline; yield, per engine, what the report needs to find what the stages left."""
    check_targets(recipe.budget, list(recipe.targets))
    images, teacher = baseline_of(recipe, step)
    check_budget(recipe, images.metrics)
    # What can fail, fails before hours are spent on the student.
    if recipe.checkpoint is not None:
        check(recipe.expect, answers_of_reference(recipe, step, images, teacher), images.path)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    distilled = pressed(recipe, step, images, teacher, baseline)

    onnx = (
        baseline if distilled is teacher else step(export_onnx, recipe.export, label="student", model=distilled, images=images)
    )
    ranges = step(observe, recipe.calibrate, model=onnx, images=images)

    trained_on = None
    if distilled is not teacher and not recipe.quantize_aware.epochs:
        trained_on = partial(quantization_aware, recipe, step, images, teacher, distilled)

    for name in recipe.targets:
        shop = Workshop(recipe, step, name, images)
        networks = (teacher, distilled) if shop.target.READS == "checkpoint" else (baseline, onnx)
        yield {**engines_of(shop, *networks, ranges, trained_on), "images": images, "baseline": baseline, "student": onnx}


def engines_of(
    shop: Workshop, baseline: Artifact, student: Artifact, ranges: Artifact, trained_on: Callable[[], Network] | None
) -> dict[str, Any]:
    """The engines of one target, what they answered, how quick they are, and the bundle of the one that ships if it passes."""
    reason = shop.target.unavailable()
    if reason and shop.target.prepare is None:
        return {"target": shop.name, "unavailable": reason}
    int8 = shop.place(student, ranges)
    if reason and int8:
        return {"target": shop.name, "unavailable": reason, "bundle": shop.pack_to_build(int8)}
    engines, refused = shop.build_all(shop.models(baseline, student, int8))
    if not engines or (int8 and not small(engines)):
        return {"target": shop.name, "unavailable": next(reversed(refused.values()))}
    found: dict[str, Any] = {"target": shop.name, "engines": engines, "refused": refused}
    found["cannot_run"] = shop.target.cannot_run()
    forms = {"student-int8": int8} if int8 else {}
    if shop.runs:
        found["predictions"] = {row: shop.ask(row, engine) for row, engine in engines.items()}
        forms |= climb(shop, (student, ranges), trained_on, found)
        found["latency"] = shop.time(engines)
    if int8:
        found["candidate"] = candidate = candidate_of(shop, found)
        found["bundle"] = shop.pack(engines[candidate], forms.get(candidate, student))
    return found


def quantization_aware(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact, student: Artifact) -> Network:
    """The student after it was trained on with 8-bit rounding, and its ranges."""
    config = recipe.quantize_aware.model_copy(update={"epochs": 1})
    trained = step(quantize_aware, config, student=student, teacher=teacher, images=images)
    onnx = step(export_onnx, recipe.export, label="quantization-aware", model=trained, images=images)
    return onnx, step(observe, recipe.calibrate, label="quantization-aware", model=onnx, images=images)


def small(engines: dict[str, Artifact]) -> list[str]:
    """The rows that could ship."""
    return [row for row in engines if row.startswith("student-") and row != "student-fp32"]


def candidate_of(shop: Workshop, found: dict[str, Any]) -> str:
    """The row that ships if it passes: the quickest that does; where none can be asked, what the target puts first."""
    rows = small(found["engines"])
    if not shop.runs:
        return next((row for row in rows if row == f"student-{shop.target.UNTIMED}"), rows[0])
    timed = found["latency"].metrics["timed"]
    passing = [row for row in rows if not misses(shop, found["predictions"], row)]
    return min(passing or rows, key=lambda row: float(timed[row]["p50"]))


def answers_of_reference(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact) -> dict[str, Any]:
    """The baseline's accuracy in PyTorch: the row that the report opens with, measured first."""
    shop = Workshop(recipe, step, targets.REFERENCE, images)
    return shop.ask("baseline-fp32", shop.build("baseline-fp32", teacher)).metrics
