"""Which stages run where pruning was left out."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.page import press
from pipeline.recipe import load_recipe


@pytest.mark.parametrize(
    ("left_out", "changes", "trained"),
    [(True, {}, False), (False, {}, True), (True, {"student.depths": [1, 1, 1, 1]}, True)],
)
def test_a_network_that_could_not_be_pruned_is_not_trained(left_out: bool, changes: dict[str, Any], trained: bool) -> None:
    ran = []

    def step(stage: Any, config: Any, **inputs: Any) -> SimpleNamespace:
        ran.append(stage.__name__)
        return SimpleNamespace(metrics={"left_out": left_out})

    base: Any = SimpleNamespace(images=SimpleNamespace(metrics={"trainable": True}), teacher=object(), baseline=object())
    student = press("", load_recipe("resnet34", None, changes, ["onnxruntime"]), step, base, None)  # type: ignore[arg-type]
    assert ("distill" in ran) == trained
    assert (student.checkpoint is base.teacher) == (student.onnx is base.baseline) == (not trained)
