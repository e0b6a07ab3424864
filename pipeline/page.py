"""The whole pipeline on one page. Every line is a stage; a variable is what it left on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration.observe import observe
from calibration.place import place_qdq
from compress.derive import derive_student
from compress.distill import distill
from compress.features import features
from compress.prune import prune
from compress.quantize_aware import quantize_aware
from compress.train import train
from compress.transfer import transfer
from data.index import fingerprint, index
from export import targets
from export.bundle import bundle, device_code
from export.half import half
from export.onnx import export_onnx
from models.checkpoint import load_checkpoint
from models.sidecar import told_beside
from pipeline.recipe import Recipe, check_budget
from pipeline.stage import Artifact, Stages
from reports.expect import check
from reports.measure import latency, predict


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


def pressed(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact) -> Artifact:
    """The student: fewer blocks, fewer channels, trained to answer like the teacher. The teacher where nothing is trained."""
    if not (recipe.finetune and images.metrics["trainable"]):
        return teacher
    student = step(derive_student, recipe.student, teacher=teacher)
    pruned = step(prune, recipe.prune, model=student, images=images)
    distilled = step(distill, recipe.distill, student=pruned, teacher=teacher, images=images)
    if recipe.quantize_aware.epochs:
        distilled = step(quantize_aware, recipe.quantize_aware, student=distilled, teacher=teacher, images=images)
    return distilled


def compress(recipe: Recipe, step: Stages) -> Iterator[dict[str, Any]]:
    """Run the pipeline; yield, per engine, what the report needs to find what the stages left."""
    images, teacher = baseline_of(recipe, step)
    check_budget(recipe, images.metrics)
    # What can fail, fails before hours are spent on the student.
    if recipe.checkpoint is not None:
        check(recipe.expect, answers_of_reference(recipe, step, images, teacher), images.path)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    distilled = pressed(recipe, step, images, teacher)

    onnx = (
        baseline if distilled is teacher else step(export_onnx, recipe.export, label="student", model=distilled, images=images)
    )
    ranges = step(observe, recipe.calibrate, model=onnx, images=images)

    for name in recipe.targets:
        target = targets.get(name)
        networks = (teacher, distilled) if target.READS == "checkpoint" else (baseline, onnx)
        reason = target.unavailable()
        if reason and target.prepare is None:
            yield {"target": name, "unavailable": reason}
            continue
        int8 = step(place_qdq, target.PLACEMENT, label=name, model=onnx, ranges=ranges) if target.PLACEMENT else None
        if reason:
            yield {"target": name, "unavailable": reason, "bundle": prepared(recipe, step, name, int8, images)}
            continue
        platform = target.platform()
        engines, refused = engines_of(recipe, step, name, models_of(recipe, step, name, *networks, int8), images)
        if not engines or (int8 and not small(engines)):
            yield {"target": name, "unavailable": next(reversed(refused.values()))}
            continue
        found: dict[str, Any] = {"target": name, "engines": engines, "refused": refused, "cannot_run": target.cannot_run()}
        if found["cannot_run"] is None:
            found["predictions"] = {row: asked(recipe, step, name, row, engine, images) for row, engine in engines.items()}
            # All engines of a target in one stage: like for like means timed in turns, in the same minutes.
            found["latency"] = step(latency, recipe.measure, label=name, context=platform,
                                    load=target.load, engines=engines, images=images)  # fmt: skip
        if int8:
            found["candidate"] = candidate = candidate_of(target.UNTIMED, engines, found.get("latency"))
            opened = {"load": target.load} if found["cannot_run"] is None else {}
            found["bundle"] = step(bundle, recipe.bundle, label=name, context=device_code(), engine=engines[candidate],
                                   model=int8 if candidate == "student-int8" else onnx, images=images,
                                   runner=target.runner, **opened)  # fmt: skip
        yield {**found, "images": images, "baseline": baseline, "student": onnx}


def models_of(
    recipe: Recipe, step: Stages, name: str, baseline: Artifact, student: Artifact, int8: Artifact | None
) -> dict[str, Artifact]:
    """What the target is to build engines of, by row."""
    target = targets.get(name)
    models = {"baseline-fp32": baseline}
    if student is not baseline:
        models["student-fp32"] = student
    if floats := target.half():
        models[f"student-{floats}"] = step(half, recipe.half, label="student", model=student)
    if int8 and target.PLACEMENT and target.PLACEMENT.floats == "float16":
        int8 = step(half, recipe.half, label=f"int8 {name}", model=int8)
    return models | ({"student-int8": int8} if int8 else {})


def engines_of(
    recipe: Recipe, step: Stages, name: str, models: dict[str, Artifact], images: Artifact
) -> tuple[dict[str, Artifact], dict[str, str]]:
    """The engines by row, and why there are none of the other rows."""
    engines, refused = {}, {}
    for row, model in models.items():
        try:
            engines[row] = built(recipe, step, name, row, model, images)
        except (ValueError, RuntimeError) as refusal:  # the other engines are still wanted
            refused[row] = f"its build failed: {' '.join(str(refusal).split())}"
    return engines, refused


def small(engines: dict[str, Artifact]) -> list[str]:
    """The rows that could ship."""
    return [row for row in engines if row.startswith("student-") and row != "student-fp32"]


def candidate_of(untimed: str, engines: dict[str, Artifact], latency: Artifact | None) -> str:
    """The row that ships if it passes: the quicker of INT8 and 16-bit floats, `untimed` where nobody can tell."""
    if latency is None:
        return f"student-{untimed}" if f"student-{untimed}" in engines else small(engines)[0]
    return min(small(engines), key=lambda row: float(latency.metrics["timed"][row]["p50"]))


def prepared(recipe: Recipe, step: Stages, name: str, int8: Artifact | None, images: Artifact) -> Artifact:
    """Where only the device can build: the bundle that it builds from."""
    target = targets.get(name)
    assert int8 is not None and target.prepare is not None
    files = step(target.prepare, recipe.targets[name], label=name, context=device_code(), model=int8)
    return step(bundle, recipe.bundle, label=name, context=device_code(), engine=files, model=int8,
                images=images, runner=target.runner)  # fmt: skip


def built(recipe: Recipe, step: Stages, name: str, row: str, model: Artifact, images: Artifact) -> Artifact:
    target = targets.get(name)
    label = f"{row}/{name}"
    return step(target.build, recipe.targets[name], label=label, context=target.platform(), model=model, images=images)


def asked(recipe: Recipe, step: Stages, name: str, row: str, engine: Artifact, images: Artifact) -> Artifact:
    """What the engine answers about every test image."""
    target = targets.get(name)
    label = f"{row}/{name}"
    return step(predict, recipe.measure, label=label, context=target.platform(), load=target.load, engine=engine, images=images)


def answers_of_reference(recipe: Recipe, step: Stages, images: Artifact, teacher: Artifact) -> dict[str, Any]:
    """The baseline's accuracy in PyTorch: the row that the report opens with, measured first."""
    engine = built(recipe, step, targets.REFERENCE, "baseline-fp32", teacher, images)
    return asked(recipe, step, targets.REFERENCE, "baseline-fp32", engine, images).metrics
