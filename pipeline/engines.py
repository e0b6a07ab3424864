"""Builds, measures and packs the engines of one target, chooses one on the images that choose, and judges it once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from core.cache import Artifact
from core.engine_name import EngineName
from measure.judge import Judge, judge_of
from measure.sequence import fixed_sequence
from pipeline.builder import EngineBuilder
from pipeline.choose import best, sequence, unmeasured, verdict
from pipeline.failures import costs_its_row
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
    result = TargetResult(name, cannot_run=target.cannot_run(), engines=engines, refused=refused)
    files: Mapping[EngineName, Artifact] = models | shippable
    if builder.runs and not is_lost(result, shippable):
        result, files = measured(builder, recipe, base, students, result, files, held_out, before)
    if is_lost(result, shippable):
        return TargetResult(name, unavailable=list(result.refused.values())[-1])
    if builder.runs:
        return judged(builder, recipe, base, result, files)
    if not shippable:
        return result
    return packed(builder, result, unmeasured([key for key in engines if key.could_ship], target.UNTIMED), shippable)


def is_lost(result: TargetResult, shippable: Collection[EngineName]) -> bool:
    """Whether no engine is left, or none of those that could ship. `shippable`: those for which there were files."""
    return not result.engines or (bool(shippable) and not any(name.could_ship for name in result.engines))


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
    """`built` with the rungs of the ladder, all latencies, and the engines to be judged; and the float32 files of all engines.

    `files` are those of `built`, `held_out` its predictions for the images that choose.
    """
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
    known = None if recipe.ladder.again else climbed_before(before, built.engines, held_out, judge)
    climbed = known or climb(builder, students, held_out, recipe.ladder, recipe.rank_layers, judge)
    engines = {**built.engines, **climbed.engines}
    latency, failed = builder.time_all(engines)
    result = replace(
        built,
        engines=engines,
        refused={**built.refused, **climbed.refused},
        held_out={**held_out, **climbed.predictions},
        rungs=tuple(climbed.rungs),
        climbed_for=before.climbed_for if known and before else recipe.gate,
        latency=latency,
    )
    result = without(result, failed)
    return replace(result, judged=to_judge(result, students, judge, recipe.prefer)), {**files, **climbed.placed}


def to_judge(
    result: TargetResult, students: Sequence[Student], judge: Judge, prefer: Literal["latency", "size"]
) -> tuple[EngineName, ...]:
    """The engines to be judged, from the mildest to the best one on the images that choose; none if no engine could ship."""
    candidates = [name for name in result.engines if name.could_ship]
    if not candidates:
        return ()
    assert result.latency is not None
    sizes = {name: float(result.engines[name].metrics["size_bytes"]) for name in candidates}
    chosen = best(candidates, result.held_out, result.latency, judge, sizes, prefer)
    milder = {student.variant: student.milder for student in students}
    return sequence(chosen, result.held_out, judge, milder.get(chosen.variant))


def judged(
    builder: EngineBuilder, recipe: Recipe, base: Base, result: TargetResult, files: Mapping[EngineName, Artifact]
) -> TargetResult:
    """`result` with what ships; the baseline and `result.judged` are predicted on the images that judge, and measured alone."""
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "test")
    opened = {name: result.engines[name] for name in (result.baseline, *result.judged) if name in result.engines}
    predictions, failed = builder.predict_all(opened, "test")
    alone = {name: builder.alone(name, opened[name]) for name in predictions}
    result = replace(result, predictions=predictions, alone=alone, candidate=next(reversed(result.judged), None))
    result = without(result, failed)
    if not result.judged:
        return result
    ships = fixed_sequence([verdict(predictions, name, judge) for name in result.judged], recipe.gate.strict)
    return packed(builder, result, result.judged[-1 if ships is None else ships], files)


def packed(
    builder: EngineBuilder, result: TargetResult, candidate: EngineName, files: Mapping[EngineName, Artifact]
) -> TargetResult:
    """`result` with the bundle of the `candidate`. If it cannot be packed, nothing ships. `files` has its float32 file."""
    result, failed = replace(result, candidate=candidate), dict[EngineName, str]()
    with costs_its_row(candidate, failed, "it was built and cannot be packed: "):
        return replace(result, bundle=builder.pack(result.engines[candidate], files[candidate]))
    return without(result, failed)


def without(result: TargetResult, failed: Mapping[EngineName, str]) -> TargetResult:
    """`result` without the engines that have `failed`, and with the reasons."""

    def left(found: Mapping[EngineName, Artifact]) -> dict[EngineName, Artifact]:
        return {name: artifact for name, artifact in found.items() if name not in failed}

    return replace(
        result,
        engines=left(result.engines),
        refused={**result.refused, **failed},
        held_out=left(result.held_out),
        predictions=left(result.predictions),
        judged=tuple(name for name in result.judged if name not in failed),
        rungs=tuple(rung for rung in result.rungs if rung.name not in failed),
    )
