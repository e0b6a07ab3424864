"""The whole pipeline on one page. `step` runs a stage or finds it in the cache; a variable is the stage's folder on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from calibration.observe import observe
from compress.derive import derive_student
from compress.distill import distill
from compress.prune import prune
from compress.prune_sensitivity import sensitivity
from compress.quantize_aware import quantize_aware
from core.cache import Artifact, Stages
from core.hardware import instruction_set
from export.onnx import export_onnx
from pipeline.baseline import baseline_of
from pipeline.builder import EngineBuilder
from pipeline.check import check
from pipeline.clock import Clock
from pipeline.engines import engines_of
from pipeline.follow import trained_as
from pipeline.levels import hardest
from pipeline.minutes import Plan, within
from pipeline.plan import plan
from pipeline.recipe import Recipe, check_trainable
from pipeline.student import Base, Pressed, Student
from pipeline.trial import check_targets
from reports.run_folder import UNPRUNED, TargetResult

MORE_ENGINES = 2  # a search adds the engines of at most two networks
NOT_ENDED = "The search for a smaller network has not ended: the same command continues it. Until then, this is the result."


@dataclass(frozen=True)
class Start:
    """What the students of a run have in common, and the recipe of each, by variant. `searches`: they are searched for."""

    recipe: Recipe
    base: Base
    variants: Mapping[str, Recipe]
    searches: bool


def compress(
    recipe: Recipe,
    step: Stages,
    sweep: Mapping[str, Recipe] | None = None,
    before: Mapping[str, TargetResult] | None = None,
    clock: Clock | None = None,
    save: Callable[[Pressed], object] = lambda pressed: None,
) -> Pressed:
    """Run the pipeline.

    `sweep`: recipes by variant that differ from `recipe` in how they prune. Each makes a student, and the best one ships.
    `before`: the results of the last finished run in the same folder, by target.
    `clock`: the time that the run has; None: no limit.
    `save` is called with the network as it came in 8 bits before a search: if the search is interrupted, this is the result.
    """
    begun = start(recipe, step, sweep)
    recipe, base = begun.recipe, begun.base

    def engines(students: Sequence[Student]) -> list[TargetResult]:
        return engines_for(students, recipe, step, base, before)

    if begun.searches:
        safe, built, plan = unpruned(recipe, step, base, clock, before)
        save(Pressed(base, safe, built, notes=(NOT_ENDED,)))
        found = hardest(recipe, step, base, plan)
        students = of_levels({UNPRUNED: base.teacher, **found.networks}, recipe, step, base)
        return Pressed(base, students, engines(students), found.levels, found.notes)
    variants, plans = planned(begun, step, clock)
    students = [press(name, variant, step, base, plans[name]) for name, variant in variants.items()]
    return Pressed(base, students, engines(students))


def start(recipe: Recipe, step: Stages, sweep: Mapping[str, Recipe] | None) -> Start:
    """The images, the baseline, and all checks: errors appear before hours are spent on a student."""
    variants = sweep or {"": recipe}
    for variant in variants.values():
        check_targets(variant.budget, list(variant.targets))
    recipe, images, checked, teacher = baseline_of(recipe, step, variants.values())
    variants = {name: trained_as(recipe, variant) for name, variant in variants.items()}
    for variant in variants.values():
        check_trainable(variant, images.metrics, bool(sweep))
    check(recipe, step, images, teacher)
    if recipe.finetune and images.metrics["trainable"]:  # an impossible student is refused before engines are built
        for variant in variants.values():
            step(derive_student, variant.student, teacher=teacher)
    baseline = step(export_onnx, recipe.export, label="baseline", model=teacher, images=images)
    searches = bool(recipe.levels.on and not sweep and images.metrics["trainable"])
    return Start(recipe, Base(images, checked, teacher, baseline), variants, searches)


def engines_for(
    students: Sequence[Student], recipe: Recipe, step: Stages, base: Base, before: Mapping[str, TargetResult] | None
) -> list[TargetResult]:
    """The engines of the students, for every target."""
    builders = [EngineBuilder.of(recipe, step, name, base.images) for name in recipe.targets]
    return [engines_of(builder, recipe, base, students, (before or {}).get(builder.name)) for builder in builders]


def unpruned(
    recipe: Recipe, step: Stages, base: Base, clock: Clock | None, before: Mapping[str, TargetResult] | None
) -> tuple[list[Student], list[TargetResult], Plan]:
    """The network as it came, its engines, and the plan of the search: what it finds takes the time of these engines again."""
    used = len(step.used)
    safe = of_levels({UNPRUNED: base.teacher}, recipe, step, base)
    built = engines_for(safe, recipe, step, base, before)
    seconds = sum(stage.manifest["seconds"] for stage in step.used[used:])
    return safe, built, Plan.of(clock, engines=MORE_ENGINES * seconds)


def planned(begun: Start, step: Stages, clock: Clock | None) -> tuple[dict[str, Recipe], dict[str, Artifact | None]]:
    """The recipes of the variants with the time that each training has, and the widths of those that have a budget."""
    variants = {name: within(clock, variant, len(begun.variants)) for name, variant in begun.variants.items()}
    return variants, {name: plan(name, variant, step, begun.base) for name, variant in variants.items()}


def of_levels(networks: Mapping[str, Artifact], recipe: Recipe, step: Stages, base: Base) -> list[Student]:
    """The students of the search over levels, from the mildest to the hardest."""
    students: list[Student] = []
    for name, network in networks.items():
        trained_on = None if network is base.teacher else partial(train_quantized, name, recipe, step, base, network)
        student = exported(name, recipe, step, base, network, trained_on)
        students.append(replace(student, milder=students[-1].variant if students else None))
    return students


def press(name: str, recipe: Recipe, step: Stages, base: Base, widths: Artifact | None) -> Student:
    """The student of one variant: fewer blocks, fewer channels, trained to predict like the teacher, calibrated."""
    if not (recipe.finetune and base.images.metrics["trainable"]):
        return exported(name, recipe, step, base, base.teacher)
    images, teacher = base.images, base.teacher
    student = step(derive_student, recipe.student, teacher=teacher)
    if recipe.sensitivity.images:
        step(sensitivity, recipe.sensitivity, model=student, images=images)
    given: dict[str, Any] = {"plan": widths} if widths else {}
    pruned = step(prune, recipe.prune, label=name, model=student, images=images, **given)
    if pruned.metrics["left_out"] and not (recipe.student.arch or recipe.student.depths):
        return exported(name, recipe, step, base, teacher)  # there is nothing to recover from
    distilled = step(distill, recipe.distill, label=name, student=pruned, teacher=teacher, images=images)
    if recipe.quantize_aware.epochs:
        trained = step(quantize_aware, recipe.quantize_aware, label=name, student=distilled, teacher=teacher, images=images)
        return exported(name, recipe, step, base, trained)
    return exported(name, recipe, step, base, distilled, partial(train_quantized, name, recipe, step, base, distilled))


def exported(
    name: str, recipe: Recipe, step: Stages, base: Base, model: Artifact, trained_on: Callable[[], Student] | None = None
) -> Student:
    """The checkpoint `model` as FP32 ONNX with observed ranges; the baseline's ONNX if `model` is the teacher itself."""
    label = f"student {name}".strip()
    onnx = base.baseline
    if model is not base.teacher:
        onnx = step(export_onnx, recipe.export, label=label, model=model, images=base.images)
    ranges = step(observe, recipe.calibrate, label=name, context=instruction_set(), model=onnx, images=base.images)
    return Student(name, model, onnx, ranges, trained_on)


def train_quantized(name: str, recipe: Recipe, step: Stages, base: Base, student: Artifact) -> Student:
    """The student after one more epoch with 8-bit rounding: the last rung of the recovery ladder."""
    config = recipe.quantize_aware.model_copy(update={"epochs": 1})
    trained = step(quantize_aware, config, student=student, teacher=base.teacher, images=base.images)
    onnx = step(export_onnx, recipe.export, label="quantization-aware", model=trained, images=base.images)
    label, context = "quantization-aware", instruction_set()
    ranges = step(observe, recipe.calibrate, label=label, context=context, model=onnx, images=base.images)
    return Student(name, trained, onnx, ranges)
