"""The recovery ladder: the rungs that are tried, in this order, if the INT8 engine of a target fails on the images that choose.

1. mixed: the layers that 8 bits hurt most go back to floating point, few at first
2. quantize_aware: the student is trained on with 8-bit rounding in its forward pass, then quantized like any other

The ranges are already the best of several methods (calibration/). Every rung is an engine with its own row. The ladder ends
with the first rung that passes, or with the first that the images are too few to tell about.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from calibration.rank_layers import RankLayers, RankLayersOf, rank_layers
from core.cache import Artifact
from core.engine_name import EngineName
from core.hardware import instruction_set
from core.text import some
from measure.gate import Gate, too_few
from measure.judge import Judge
from measure.verdict import Drop
from pipeline.builder import EngineBuilder
from pipeline.choose import drop
from pipeline.recipe import Ladder
from pipeline.student import Student
from reports.run_folder import Rung


@dataclass(frozen=True)
class Climbed:
    """The rungs that were tried, with their engines, predictions and float32 files with Q/DQ."""

    rungs: list[Rung]
    engines: dict[EngineName, Artifact]
    predictions: dict[EngineName, Artifact]
    placed: dict[EngineName, Artifact]


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
    found = Climbed([], {}, {}, {})
    student = to_recover(builder, students, predictions, judge)
    if student is None:
        return found
    started = time.perf_counter()
    for name, what, placed in rungs(builder, student, ladder, ranking):
        engine = builder.build(name, builder.as_built(placed))
        found.engines[name], found.placed[name] = engine, placed
        found.predictions[name] = builder.predict(name, engine, "val")
        lost = drop({**predictions, **found.predictions}, name, judge)
        assert lost is not None
        untold = too_few(lost, judge.gate.max_drop)
        found.rungs.append(Rung(name, what, lost.verdict, untold, round(time.perf_counter() - started, 1)))
        if lost.verdict == "pass" or untold:
            break
        started = time.perf_counter()
    return found


def to_recover(
    builder: EngineBuilder, students: Sequence[Student], predictions: Mapping[EngineName, Artifact], judge: Judge
) -> Student | None:
    """The student with the smallest drop; None unless the INT8 engines of all students have to be recovered."""
    judged = []
    for student in students:
        if (name := builder.named(student, "int8")) in predictions:
            judged.append((student, drop(predictions, name, judge)))
    failed = [(found.points, i) for i, (_, found) in enumerate(judged) if found and recoverable(found, judge.gate)]
    return judged[min(failed)[1]][0] if failed and len(failed) == len(judged) else None


def recoverable(drop: Drop, gate: Gate) -> bool:
    """Whether an INT8 engine with this drop has to be recovered: it would not ship, and a rung could pass."""
    if drop.verdict == "inconclusive":
        return gate.strict and not too_few(drop, gate.max_drop)
    return drop.verdict == "fail"


def rungs(
    builder: EngineBuilder, student: Student, ladder: Ladder, ranking: RankLayers
) -> Iterator[tuple[EngineName, str, Artifact]]:
    """Name, description and Q/DQ file of every rung; each is computed only when the loop reaches it."""
    placement = builder.target.PLACEMENT
    assert placement is not None
    if "mixed" in ladder.rungs:
        config = RankLayersOf(**ranking.model_dump(), placement=placement)
        ranked = builder.step(rank_layers, config, label=builder.name, context=instruction_set(), model=student.onnx,
                              ranges=student.ranges, images=builder.images)  # fmt: skip
        order = [node for node, _ in json.loads((ranked.path / "rank_layers.json").read_text())]
        for count in counts(int(ladder.most * len(order))):
            names = tuple(order[:count])
            placed = builder.place(student.onnx, student.ranges, skip=names)
            assert placed is not None
            layers = f"{count} of {len(order)} layers in floating point ({some(names, 3)})"
            yield builder.named(student, f"mixed{count}"), layers, placed
    if "quantize_aware" in ladder.rungs and student.trained_on is not None:
        trained = student.trained_on()
        placed = builder.place(trained.onnx, trained.ranges)
        assert placed is not None
        yield builder.named(student, "qat"), "quantization-aware distillation", placed


def counts(most: int) -> list[int]:
    """1, 2, 3, 5, 8, … up to `most`. Few numbers, because every rung costs a build and an evaluation."""
    found, following = [], 1
    while following <= most:
        found.append(following)
        following = max(following + 1, round(following * 1.6))
    return found
