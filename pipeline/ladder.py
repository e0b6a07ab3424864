"""The recovery ladder: what is tried, in this order, when the INT8 engine of a target misses the gate.

1. mixed: the layers that 8 bits hurt most go back to floating point, few at first
2. quantize_aware: the student is trained on with 8-bit rounding in its forward pass, then quantized like any other

Ranges are the best of several methods to begin with (calibration/). Every rung is an engine with a row of its own; the first
that passes ends it.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from calibration.fragile import fragile
from pipeline.engines import Workshop
from pipeline.stage import Artifact
from reports.answers import read_answers
from reports.gate import drop_of

Network = tuple[Artifact, Artifact]  # an ONNX file and its ranges


def climb(
    shop: Workshop, network: Network, trained_on: Callable[[], Network] | None, found: dict[str, Any]
) -> dict[str, Artifact]:
    """Add to `found` the engines and predictions of rungs until one passes; the Q/DQ file of each, by row.

    `trained_on` gives the network after quantization-aware training, None where nothing can be trained.
    """
    forms: dict[str, Artifact] = {}
    answers = found["predictions"]
    if "student-int8" not in answers or not misses(shop, answers, "student-int8"):
        return forms
    found["rungs"] = []
    started = time.perf_counter()
    for row, what, placed in rungs(shop, network, trained_on):
        found["engines"][row] = shop.build(row, shop.as_built(placed))
        answers[row], forms[row] = shop.ask(row, found["engines"][row]), placed
        missed = misses(shop, answers, row)
        seconds = round(time.perf_counter() - started, 1)
        found["rungs"].append({"row": row, "what": what, "passes": not missed, "seconds": seconds})
        if not missed:
            break
        started = time.perf_counter()
    return forms


def rungs(shop: Workshop, network: Network, trained_on: Callable[[], Network] | None) -> Iterator[tuple[str, str, Artifact]]:
    """Row, what it is in words, and the Q/DQ file; each is made when it is asked for."""
    ladder = shop.recipe.ladder
    onnx, ranges = network
    if "mixed" in ladder.rungs:
        found = shop.step(fragile, shop.recipe.fragile, model=onnx, ranges=ranges, images=shop.images)
        order = [node for node, _ in json.loads((found.path / "fragile.json").read_text())]
        for count in counts(int(ladder.most * len(order))):
            names = tuple(order[:count])
            placed = shop.place(onnx, ranges, skip=names)
            assert placed is not None
            layers = f"{count} of {len(order)} layers in floating point ({', '.join(names[:3])}{', …' if count > 3 else ''})"
            yield f"student-mixed{count}", layers, placed
    if "quantize_aware" in ladder.rungs and trained_on is not None:
        placed = shop.place(*trained_on())
        assert placed is not None
        yield "student-qat", "quantization-aware distillation", placed


def counts(most: int) -> list[int]:
    """1, 2, 3, 5, 8, … up to `most`: every step costs a build and a pass over the test images."""
    found, following = [], 1
    while following <= most:
        found.append(following)
        following = max(following + 1, round(following * 1.6))
    return found


def misses(shop: Workshop, answers: dict[str, Artifact], row: str) -> bool:
    """Whether the gate would keep the engine of `row` from shipping; False where there is no baseline to compare with."""
    gate = shop.recipe.gate
    if "baseline-fp32" not in answers:
        return False
    before, after = read_answers(answers["baseline-fp32"].path), read_answers(answers[row].path)
    truth = before.labels if (before.labels >= 0).all() else before.first
    verdict = drop_of(before.first == truth, after.first == truth, gate.max_drop).verdict
    return verdict == "fail" or (gate.strict and verdict == "inconclusive")
