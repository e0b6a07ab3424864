"""Builds, measures and packs the engines of one target, chooses one on the images that choose, and judges it once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.cache import Artifact
from core.engine_name import EngineName
from measure.judge import judge_of
from measure.sequence import fixed_sequence
from pipeline.builder import EngineBuilder, costs_its_row
from pipeline.choose import best, sequence, unmeasured, verdict
from pipeline.ladder import climb, climbed_before
from pipeline.recipe import Recipe
from pipeline.student import Base, Student
from reports.run_folder import TargetResult


def engines_of(
    builder: EngineBuilder, recipe: Recipe, base: Base, students: Sequence[Student], before: TargetResult | None = None
) -> TargetResult:
    """The result for the target of `builder`; `recipe` has the settings of the ladder and the gate, `base` the images.

    `before` is the result of the last finished run in OUT.
    """
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
    held_out: dict[EngineName, Artifact] = {}
    if builder.runs:
        held_out, failed = builder.predict_all(engines, "val")
        refused |= failed
        engines = {key: engines[key] for key in held_out}
    if not engines or (shippable and not any(key.could_ship for key in engines)):
        return TargetResult(name, unavailable=next(reversed(refused.values())))
    result = TargetResult(name, cannot_run=target.cannot_run(), engines=engines, refused=refused)
    if builder.runs:
        result, files = measured(builder, recipe, base, students, result, models | shippable, held_out, before)
        return judged(builder, recipe, base, result, files)
    if not shippable:
        return result
    candidate = unmeasured([key for key in engines if key.could_ship], target.UNTIMED)
    return replace(result, candidate=candidate, bundle=builder.pack(engines[candidate], shippable[candidate]))


def measured(
    builder: EngineBuilder,
    recipe: Recipe,
    base: Base,
    students: Sequence[Student],
    built: TargetResult,
    files: Mapping[EngineName, Artifact],
    held_out: Mapping[EngineName, Artifact],
    before: TargetResult | None,
) -> tuple[TargetResult, Mapping[EngineName, Artifact]]:
    """`built` with the rungs of the ladder, the engines to be judged, and all latencies; and the float32 files of all engines.

    `files` are those of `built`, `held_out` its predictions for the images that choose.
    """
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
    known = None if recipe.ladder.again else climbed_before(before, built.engines, held_out, judge)
    climbed = known or climb(builder, students, held_out, recipe.ladder, recipe.rank_layers, judge)
    engines, held_out = {**built.engines, **climbed.engines}, {**held_out, **climbed.predictions}
    latency = builder.time(engines)
    candidates = [key for key in engines if key.could_ship]
    order: tuple[EngineName, ...] = ()
    if candidates:
        sizes = {key: float(engines[key].metrics["size_bytes"]) for key in candidates}
        chosen = best(candidates, held_out, latency, judge, sizes)
        milder = {student.variant: student.milder for student in students}
        order = sequence(chosen, held_out, judge, milder.get(chosen.variant))
    result = replace(
        built,
        engines=engines,
        refused={**built.refused, **climbed.refused},
        held_out=held_out,
        rungs=tuple(climbed.rungs),
        climbed_for=before.climbed_for if known and before else recipe.gate,
        latency=latency,
        judged=order,
    )
    return result, {**files, **climbed.placed}


def judged(
    builder: EngineBuilder, recipe: Recipe, base: Base, result: TargetResult, files: Mapping[EngineName, Artifact]
) -> TargetResult:
    """`result` with the predictions of the baseline and of `result.judged` for the images that judge, and what ships."""
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "test")
    opened = [name for name in (result.baseline, *result.judged) if name in result.engines]
    predictions = {name: builder.predict(name, result.engines[name], "test") for name in opened}
    result = replace(result, predictions=predictions)
    if not result.judged:
        return result
    ships = fixed_sequence([verdict(predictions, name, judge) for name in result.judged], recipe.gate.strict)
    candidate = result.judged[-1 if ships is None else ships]
    return replace(result, candidate=candidate, bundle=builder.pack(result.engines[candidate], files[candidate]))
