"""The benchmark from a network to its section of RESULTS.md, with the one tool that is always installed."""

import json
from pathlib import Path

import pytest

from benchmarks import engines, peers, turns
from benchmarks.engines import section
from core.cache import Artifact, Stages
from export import targets
from pipeline.recipe import load_recipe
from tests.conftest import Small


@pytest.mark.slow
def test_a_network_becomes_a_section_with_a_table_per_runtime(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = "quantize_static, min-max"
    monkeypatch.setattr(engines, "TOOLS", {tool: peers.TOOLS[tool]})  # the others have tests of their own
    monkeypatch.setattr(turns, "WARMUP", 0.0)
    described = json.loads((small.images / "dataset.json").read_text())
    images = Artifact(small.images, {"content": "images", "metrics": described, "seconds": 0.0})
    teacher = Artifact(small.model, {"content": "model", "metrics": {}, "seconds": 0.0})
    recipe = load_recipe("resnet18", None, {"calibrate.images": 32}, ["onnxruntime", "openvino"])
    results = tmp_path / "RESULTS.md"
    section(recipe, Stages(tmp_path / "stages"), "resnet18", teacher, images, 20, (40,), results)
    text = results.read_text()
    assert "## resnet18, 32x32" in text and "accuracy of 40 test images" in text
    first, second = text.split("### onnxruntime")[1].split("### openvino")
    for row in ("| FP32 |", "| respress |", f"| {tool} |"):
        assert row in first
    assert ("| respress |" in second) == (targets.get("openvino").unavailable() is None)
    assert tool not in second
