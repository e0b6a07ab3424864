"""The recovery ladder: what is tried, in this order, when the INT8 engine of a target misses the gate.

1. mixed: the layers that 8 bits hurt most go back to floating point, few at first
2. quantize_aware: the student is trained on with 8-bit rounding in its forward pass, then quantized like any other

Ranges are the best of several methods to begin with (calibration/). Every rung is an engine with a row of its own; the first
that passes ends it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from calibration.rank_layers import RankLayersOf, rank_layers
from core.cache import Artifact
from measure.gate import drop_of
from measure.predictions import read_predictions
from measure.verdict import Drop
from pipeline.engines import Workshop
from pipeline.student import Student


def climb(shop: Workshop, students: Sequence[Student], found: dict[str, Any]) -> dict[str, Artifact]:
    """Add to `found` the engines and predictions of rungs until one passes; the Q/DQ file of each, by row.

    Of several students, all of which miss, it is the one that lost least.
    """
    forms: dict[str, Artifact] = {}
    answers = found["predictions"]
    judged = [(student, drop(shop, answers, student.row("int8"))) for student in students if student.row("int8") in answers]
    lost = [(one.points, i) for i, (_, one) in enumerate(judged) if one and kept_back(shop, one)]
    if not lost or len(lost) < len(judged):
        return forms
    student, _ = judged[min(lost)[1]]
    found["rungs"] = []
    started = time.perf_counter()
    for row, what, placed in rungs(shop, student):
        found["engines"][row] = shop.build(row, shop.as_built(placed))
        answers[row], forms[row] = shop.ask(row, found["engines"][row]), placed
        missed = misses(shop, answers, row)
        seconds = round(time.perf_counter() - started, 1)
        found["rungs"].append({"row": row, "what": what, "passes": not missed, "seconds": seconds})
        if not missed:
            break
        started = time.perf_counter()
    return forms


def rungs(shop: Workshop, student: Student) -> Iterator[tuple[str, str, Artifact]]:
    """Row, what it is in words, and the Q/DQ file; each is made when it is asked for."""
    ladder = shop.recipe.ladder
    if "mixed" in ladder.rungs:
        assert shop.target.PLACEMENT is not None
        ranking = RankLayersOf(**shop.recipe.rank_layers.model_dump(), placement=shop.target.PLACEMENT)
        found = shop.step(rank_layers, ranking, label=shop.name, model=student.onnx, ranges=student.ranges, images=shop.images)
        order = [node for node, _ in json.loads((found.path / "rank_layers.json").read_text())]
        for count in counts(int(ladder.most * len(order))):
            names = tuple(order[:count])
            placed = shop.place(student.onnx, student.ranges, skip=names)
            assert placed is not None
            layers = f"{count} of {len(order)} layers in floating point ({', '.join(names[:3])}{', …' if count > 3 else ''})"
            yield student.row(f"mixed{count}"), layers, placed
    if "quantize_aware" in ladder.rungs and student.trained_on is not None:
        trained = student.trained_on()
        placed = shop.place(trained.onnx, trained.ranges)
        assert placed is not None
        yield student.row("qat"), "quantization-aware distillation", placed


def counts(most: int) -> list[int]:
    """1, 2, 3, 5, 8, … up to `most`: every step costs a build and a pass over the test images."""
    found, following = [], 1
    while following <= most:
        found.append(following)
        following = max(following + 1, round(following * 1.6))
    return found


def misses(shop: Workshop, answers: dict[str, Artifact], row: str) -> bool:
    """Whether the gate would keep the engine of `row` from shipping; False where there is no baseline to compare with."""
    found = drop(shop, answers, row)
    return found is not None and kept_back(shop, found)


def drop(shop: Workshop, answers: dict[str, Artifact], row: str) -> Drop | None:
    """What `row` lost against the baseline, None where there is none; on unlabelled images, of its answers."""
    if "baseline-fp32" not in answers:
        return None
    before, after = read_predictions(answers["baseline-fp32"].path), read_predictions(answers[row].path)
    truth = before.labels if (before.labels >= 0).all() else before.first
    return drop_of(before.first == truth, after.first == truth, shop.recipe.gate.max_drop)


def kept_back(shop: Workshop, found: Drop) -> bool:
    return found.verdict == "fail" or (shop.recipe.gate.strict and found.verdict == "inconclusive")
