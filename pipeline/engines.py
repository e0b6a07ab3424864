"""Builds, measures and packs the engines of one target, and chooses the one that ships."""

from collections.abc import Sequence
from dataclasses import replace

from measure.judge import judge_of
from pipeline.builder import EngineBuilder
from pipeline.choose import quickest, unmeasured
from pipeline.ladder import climb
from pipeline.recipe import Recipe
from pipeline.student import Base, Student
from reports.run_folder import TargetResult


def engines_of(builder: EngineBuilder, recipe: Recipe, base: Base, students: Sequence[Student]) -> TargetResult:
    """The result for the target of `builder`; `recipe` has the settings of the ladder and the gate, `base` the test images."""
    judge = judge_of(recipe.gate, base.images.path, base.checked.path)
    target, name, baseline = builder.target, builder.name, base.baseline
    reason = target.unavailable()
    if reason and target.prepare is None:
        return TargetResult(name, unavailable=reason)
    if target.READS == "checkpoint":
        baseline, students = base.teacher, [replace(student, onnx=student.checkpoint) for student in students]
    shippable = {key: model for student in students for key, model in builder.shippable(student).items()}
    if reason and shippable:  # the students of a sweep cannot be measured here, so the first one is taken
        first = shippable[builder.named(students[0], "int8")]
        return TargetResult(name, unavailable=reason, bundle=builder.pack_to_build(first))
    models, refused = builder.models(baseline, students, shippable)
    engines, failed = builder.build_all(models)
    refused |= failed
    if not engines or (shippable and not any(key.could_ship for key in engines)):
        return TargetResult(name, unavailable=next(reversed(refused.values())))
    result = TargetResult(name, cannot_run=target.cannot_run(), engines=engines, refused=refused)
    if builder.runs:
        predictions = {key: builder.predict(key, engine) for key, engine in engines.items()}
        climbed = climb(builder, students, predictions, recipe.ladder, recipe.rank_layers, judge)
        engines |= climbed.engines
        shippable |= climbed.placed
        result = replace(
            result,
            predictions=predictions | climbed.predictions,
            rungs=tuple(climbed.rungs),
            latency=builder.time(engines),
        )
    if not shippable:
        return result
    candidates = [key for key in engines if key.could_ship]
    if result.latency:
        candidate = quickest(candidates, result.predictions, result.latency, judge)
    else:
        candidate = unmeasured(candidates, target.UNTIMED)
    return replace(result, candidate=candidate, bundle=builder.pack(engines[candidate], shippable[candidate]))
