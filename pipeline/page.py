"""The whole pipeline on one page. Every line is a stage; a variable is what it left on disk."""

from collections.abc import Iterator
from typing import Any

from calibration.observe import observe
from calibration.place import place_qdq
from compress.derive import derive_student
from compress.distill import distill
from compress.prune import prune
from compress.quantize_aware import quantize_aware
from compress.train import train
from data.index import fingerprint, index
from export import targets
from export.bundle import bundle, device_code
from export.onnx import export_onnx
from models.checkpoint import load_checkpoint
from pipeline.recipe import Recipe
from pipeline.stage import Artifact, Stages
from reports.measure import latency, predict


def baseline_of(recipe: Recipe, step: Stages, images: Artifact) -> Artifact:
    """The FP32 network everything is compared with: the user's checkpoint, or one trained here."""
    if recipe.checkpoint is None:
        return step(train, recipe.train, images=images)
    return step(load_checkpoint, recipe.load, checkpoint=recipe.checkpoint, images=images)


def compress(recipe: Recipe, step: Stages) -> Iterator[dict[str, Any]]:
    """Run the pipeline; yield, per engine, what the report needs to find what the stages left."""
    images = step(index, recipe.data, context=fingerprint(recipe.data))
    teacher = baseline_of(recipe, step, images)
    student = step(derive_student, recipe.student, teacher=teacher)
    pruned = step(prune, recipe.prune, model=student, images=images)
    distilled = step(distill, recipe.distill, student=pruned, teacher=teacher, images=images)
    if recipe.quantize_aware.epochs:
        distilled = step(quantize_aware, recipe.quantize_aware, student=distilled, teacher=teacher, images=images)

    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    onnx = step(export_onnx, recipe.export, label="student", model=distilled, images=images)
    ranges = step(observe, recipe.calibrate, model=onnx, images=images)

    for name, options in recipe.targets.items():
        target = targets.get(name)
        if reason := target.unavailable():
            yield {"target": name, "unavailable": reason}
            continue
        models = {"baseline-fp32": baseline, "student-fp32": onnx}
        if target.READS == "checkpoint":
            models = {"baseline-fp32": teacher, "student-fp32": distilled}
        if target.PLACEMENT is not None:
            models["student-int8"] = step(place_qdq, target.PLACEMENT, label=name, model=onnx, ranges=ranges)

        platform = target.platform()
        try:
            engines = {
                row: step(target.build, options, label=f"{row}/{name}", context=platform, model=model, images=images)
                for row, model in models.items()
            }
        except (ValueError, RuntimeError) as refusal:  # the other engines are still wanted
            yield {"target": name, "unavailable": f"its build failed: {' '.join(str(refusal).split())}"}
            continue
        found: dict[str, Any] = {"target": name, "engines": engines, "cannot_run": target.cannot_run()}
        if found["cannot_run"] is None:
            found["predictions"] = {
                row: step(predict, recipe.measure, label=f"{row}/{name}", context=platform,
                          load=target.load, engine=engine, images=images)
                for row, engine in engines.items()
            }  # fmt: skip
            # All engines of a target in one stage: like for like means timed in turns, in the same minutes.
            found["latency"] = step(latency, recipe.measure, label=name, context=platform,
                                    load=target.load, engines=engines, images=images)  # fmt: skip
        if "student-int8" in engines:
            found["bundle"] = step(bundle, recipe.bundle, label=name, context=device_code(), engine=engines["student-int8"],
                                   model=models["student-int8"], images=images, runner=target.runner)  # fmt: skip
        yield {**found, "baseline": baseline, "student": onnx}
