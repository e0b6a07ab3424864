"""Builds, measures and packs the engines of one target, and chooses the one that ships."""

from collections.abc import Sequence
from dataclasses import replace

from core.cache import Artifact
from core.engine_name import EngineName
from measure.judge import judge_of
from pipeline.builder import EngineBuilder, costs_its_row
from pipeline.choose import quickest, unmeasured
from pipeline.ladder import climb, climbed_before
from pipeline.recipe import Recipe
from pipeline.student import Base, Student
from reports.run_folder import TargetResult


def engines_of(
    builder: EngineBuilder, recipe: Recipe, base: Base, students: Sequence[Student], before: TargetResult | None = None
) -> TargetResult:
    """The result for the target of `builder`; `recipe` has the settings of the ladder and the gate, `base` the test images.

    `before` is the result of the last finished run in OUT.
    """
    judge = judge_of(recipe.gate, base.images.path, base.checked.path)
    target, name, baseline = builder.target, builder.name, base.baseline
    reason = target.unavailable()
    if reason and target.prepare is None:
        return TargetResult(name, unavailable=reason)
    if target.READS == "checkpoint":
        baseline, students = base.teacher, [replace(student, onnx=student.checkpoint) for student in students]
    shippable: dict[EngineName, Artifact] = {}
    refused: dict[EngineName, str] = {}
    for student in students:
        found, failed = builder.shippable(student)
        shippable |= found
        refused |= failed
    if reason:  # the students of a sweep cannot be measured here, so the first one is taken
        first, bundle = builder.named(students[0], "int8"), None
        with costs_its_row(first, refused):
            bundle = builder.pack_to_build(shippable[first]) if first in shippable else None
        return TargetResult(name, unavailable="; ".join([reason, *refused.values()]), bundle=bundle)
    models, failed = builder.models(baseline, students, shippable)
    refused |= failed
    engines, failed = builder.build_all(models)
    refused |= failed
    predictions: dict[EngineName, Artifact] = {}
    if builder.runs:
        predictions, failed = builder.predict_all(engines)
        refused |= failed
        engines = {key: engines[key] for key in predictions}
    if not engines or (shippable and not any(key.could_ship for key in engines)):
        return TargetResult(name, unavailable=next(reversed(refused.values())))
    result = TargetResult(name, cannot_run=target.cannot_run(), engines=engines, refused=refused)
    if builder.runs:
        known = None if recipe.ladder.again else climbed_before(before, engines, predictions, judge)
        climbed = known or climb(builder, students, predictions, recipe.ladder, recipe.rank_layers, judge)
        engines |= climbed.engines
        refused |= climbed.refused
        shippable |= climbed.placed
        result = replace(
            result,
            predictions=predictions | climbed.predictions,
            rungs=tuple(climbed.rungs),
            climbed_for=before.climbed_for if known and before else recipe.gate,
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
