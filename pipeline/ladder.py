"""The recovery ladder: the rungs that are tried, in this order, if the INT8 engine of a target fails on the images that choose.

1. mixed: the layers that 8 bits hurt most go back to floating point, few at first; not where the student fails in FP32, too
2. quantize_aware: the student is trained on with 8-bit rounding in its forward pass, then quantized like any other

The ranges are already the best of several methods (calibration/). Every rung is an engine with its own row. The ladder ends
with the first rung that passes. Where the images are too few to show that any engine passes, it also ends with a rung that is
inconclusive or no better than the one before.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from calibration.rank_layers import RankLayers, RankLayersOf, rank_layers
from core.cache import Artifact
from core.engine_name import EngineName
from core.hardware import instruction_set
from core.text import some
from measure.gate import Gate
from measure.judge import Judge
from measure.limits import excess, too_few
from measure.verdict import Drop
from pipeline.builder import EngineBuilder
from pipeline.choose import drop, verdict
from pipeline.failures import costs_its_row
from pipeline.recipe import Ladder
from pipeline.student import Student
from reports.run_folder import Rung, TargetResult


@dataclass(frozen=True)
class Climbed:
    """The rungs that were tried, with their engines, predictions and float32 files with Q/DQ; and why others failed."""

    rungs: list[Rung]
    engines: dict[EngineName, Artifact]
    predictions: dict[EngineName, Artifact]
    placed: dict[EngineName, Artifact]
    refused: dict[EngineName, str]


def climb(
    builder: EngineBuilder,
    students: Sequence[Student],
    predictions: Mapping[EngineName, Artifact],
    ladder: Ladder,
    ranking: RankLayers,
    judge: Judge,
) -> Climbed:
    """Try rungs until one passes, if the INT8 engines of all `students` fail.

    `predictions` are those for the images that choose. The student to start from is the one with the smallest drop.
    """
    found = Climbed([], {}, {}, {}, {})
    student = to_recover(builder, students, predictions, judge)
    if student is None:
        return found
    int8 = drop(predictions, builder.named(student, "int8"), judge)
    assert int8 is not None
    before, started = excess(int8), time.perf_counter()
    floats = builder.named(student, "fp32")
    if floats in predictions and verdict(predictions, floats, judge) == "fail":  # 8 bits are not to blame
        ladder = ladder.model_copy(update={"rungs": tuple(rung for rung in ladder.rungs if rung != "mixed")})
    for name, what, place in rungs(builder, student, ladder, ranking, found.refused):
        with costs_its_row(name, found.refused, "this rung of the recovery ladder failed: "):
            placed = place()
            engine = builder.build(name, builder.as_built(placed))
            found.predictions[name] = builder.predict(name, engine, "val")
            found.engines[name], found.placed[name] = engine, placed
        if name in found.predictions:
            seconds = round(time.perf_counter() - started, 1)
            lost = drop({**predictions, **found.predictions}, name, judge)
            assert lost is not None
            same = lost.verdict == "inconclusive" or excess(lost) >= before
            undecidable = same and too_few(lost)
            found.rungs.append(Rung(name, what, lost.verdict, undecidable, seconds, placed))
            if lost.verdict == "pass" or undecidable:
                break
            before = excess(lost)
        started = time.perf_counter()
    return found


def climbed_before(
    before: TargetResult | None,
    engines: Mapping[EngineName, Artifact],
    predictions: Mapping[EngineName, Artifact],
    judge: Judge,
) -> Climbed | None:
    """The rungs of the last run in OUT, judged again; None unless nothing but the gate has changed since then.

    `before` is the result of that run, `engines` and `predictions` are those of this run.
    """
    if before is None or before.climbed_for in (None, judge.gate):
        return None
    climbed = {rung.name: rung for rung in before.rungs}
    unchanged = {name: engine.path for name, engine in engines.items()} == {
        name: engine.path for name, engine in before.engines.items() if name not in climbed
    }
    if not unchanged or any(rung.placed is None for rung in before.rungs):
        return None
    every = {**predictions, **{name: before.held_out[name] for name in climbed}}
    return Climbed(
        rungs=[replace(rung, verdict=verdict(every, rung.name, judge)) for rung in before.rungs],
        engines={name: before.engines[name] for name in climbed},
        predictions={name: before.held_out[name] for name in climbed},
        placed={name: rung.placed for name, rung in climbed.items() if rung.placed},
        refused={
            name: reason for name, reason in before.refused.items() if name.form.startswith("mixed") or name.form == "qat"
        },
    )


def to_recover(
    builder: EngineBuilder, students: Sequence[Student], predictions: Mapping[EngineName, Artifact], judge: Judge
) -> Student | None:
    """The student with the smallest drop; None unless the INT8 engines of all students have to be recovered."""
    judged = []
    for student in students:
        if (name := builder.named(student, "int8")) in predictions:
            judged.append((student, drop(predictions, name, judge)))
    failed = [(excess(found), i) for i, (_, found) in enumerate(judged) if found and recoverable(found, judge.gate)]
    return judged[min(failed)[1]][0] if failed and len(failed) == len(judged) else None


def recoverable(drop: Drop, gate: Gate) -> bool:
    """Whether an INT8 engine with this drop has to be recovered: it would not ship, and a rung could pass."""
    if drop.verdict == "inconclusive":
        return gate.strict and not too_few(drop)
    return drop.verdict == "fail"


def rungs(
    builder: EngineBuilder, student: Student, ladder: Ladder, ranking: RankLayers, refused: dict[EngineName, str]
) -> Iterator[tuple[EngineName, str, Callable[[], Artifact]]]:
    """Name and description of every rung, and a function that makes its Q/DQ file.

    If the layers cannot be ranked, the reason goes into `refused`, and there are no mixed rungs.
    """
    placement = builder.placement
    assert placement is not None
    if "mixed" in ladder.rungs:
        config = RankLayersOf(**ranking.model_dump(), placement=placement)
        order: list[str] = []
        with costs_its_row(builder.named(student, "mixed"), refused, "its layers could not be ranked: "):
            ranked = builder.step(rank_layers, config, label=builder.name, context=instruction_set(), model=student.onnx,
                                  ranges=student.ranges, images=builder.images)  # fmt: skip
            order = [node for node, _ in json.loads((ranked.path / "rank_layers.json").read_text())]
        for count in counts(int(ladder.most * len(order))):
            names = tuple(order[:count])
            layers = f"{count} of {len(order)} layers in floating point ({some(names, 3)})"
            yield builder.named(student, f"mixed{count}"), layers, partial(builder.place, student.onnx, student.ranges, names)
    if "quantize_aware" in ladder.rungs and student.trained_on is not None:
        yield builder.named(student, "qat"), "quantization-aware distillation", partial(trained, builder, student.trained_on)


def trained(builder: EngineBuilder, train: Callable[[], Student]) -> Artifact:
    student = train()
    return builder.place(student.onnx, student.ranges)


def counts(most: int) -> list[int]:
    """1, 2, 3, 5, 8, … up to `most`. Few numbers, because every rung costs a build and an evaluation."""
    found, following = [], 1
    while following <= most:
        found.append(following)
        following = max(following + 1, round(following * 1.6))
    return found
