"""Builds, measures and packs the engines of one target, chooses one on the images that choose, and judges it once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from core.cache import Artifact
from core.engine_name import EngineName
from measure.judge import Judge, judge_of
from measure.sequence import fixed_sequence
from pipeline.builder import EngineBuilder
from pipeline.choose import best, best_untimed, sequence, unmeasured, untimed, verdict
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
    reason = builder.unavailable()
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
    if builder.runs or builder.stands_in:
        held_out, failed = builder.predict_all(engines, "val")
        refused |= failed
        engines = {key: engines[key] for key in held_out}
    result = TargetResult(name, cannot_run=builder.cannot_run(), engines=engines, refused=refused, held_out=held_out)
    files: Mapping[EngineName, Artifact] = models | shippable
    preferred = target.untimed(builder.profile)
    if (builder.runs or (builder.stands_in and preferred == "int8")) and not is_lost(result, shippable):
        result, files = recovered(builder, recipe, base, students, result, files, held_out, before)
    if builder.runs and not is_lost(result, shippable):
        result = timed(builder, recipe, base, students, result)
    if is_lost(result, shippable):
        return TargetResult(name, unavailable=list(result.refused.values())[-1])
    if builder.runs:
        return judged(builder, recipe, base, result, files)
    if not any(key.could_ship for key in result.engines):
        return result
    if builder.stands_in:
        return made_for_device(builder, recipe, base, result, files)
    return packed(builder, result, unmeasured([key for key in engines if key.could_ship], preferred), shippable)


def is_lost(result: TargetResult, shippable: Collection[EngineName]) -> bool:
    """Whether no engine is left, or none of those that could ship. `shippable`: those for which there were files."""
    return not result.engines or (bool(shippable) and not any(name.could_ship for name in result.engines))


def recovered(
    builder: EngineBuilder,
    recipe: Recipe,
    base: Base,
    students: Sequence[Student],
    built: TargetResult,
    files: Mapping[EngineName, Artifact],
    held_out: Mapping[EngineName, Artifact],
    before: TargetResult | None,
) -> tuple[TargetResult, Mapping[EngineName, Artifact]]:
    """`built` with the rungs of the ladder; and the float32 files of all engines.

    `files` are those of `built`, `held_out` its predictions for the images that choose.
    """
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
    known = None if recipe.ladder.again else climbed_before(before, built.engines, held_out, judge)
    climbed = known or climb(builder, students, held_out, recipe.ladder, recipe.rank_layers, judge)
    result = replace(
        built,
        engines={**built.engines, **climbed.engines},
        refused={**built.refused, **climbed.refused},
        held_out={**held_out, **climbed.predictions},
        rungs=tuple(climbed.rungs),
        climbed_for=before.climbed_for if known and before else recipe.gate,
    )
    return result, {**files, **climbed.placed}


def timed(
    builder: EngineBuilder, recipe: Recipe, base: Base, students: Sequence[Student], result: TargetResult
) -> TargetResult:
    """`result` with the latencies of all engines, and the engines to be judged."""
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
    latency, failed = builder.time_all(result.engines)
    result = without(replace(result, latency=latency), failed)
    return replace(result, judged=to_judge(result, students, judge, recipe.prefer))


def made_for_device(
    builder: EngineBuilder, recipe: Recipe, base: Base, result: TargetResult, files: Mapping[EngineName, Artifact]
) -> TargetResult:
    """`result` with the bundle for a device that is not here, chosen on the images that choose with the predictions of ONNX
    Runtime in its place. It is not judged. What fails on these images is not packed."""
    judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
    sizes = {name: float(engine.metrics["size_bytes"]) for name, engine in result.engines.items()}
    preferred = builder.target.untimed(builder.profile)
    candidates = untimed([name for name in result.engines if name.could_ship], preferred)
    chosen = best_untimed(candidates, result.held_out, judge, sizes)
    if verdict(result.held_out, chosen, judge) == "fail":
        return replace(result, candidate=chosen)
    return packed(builder, result, chosen, files)


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
