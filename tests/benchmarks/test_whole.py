"""The whole way from a checkpoint to a section of RESULTS.md, on a few images."""

from pathlib import Path

import pytest

from benchmarks import turns, whole
from benchmarks.whole import section
from core.cache import Stages
from pipeline.recipe import load_recipe
from tests.benchmarks.narrow import narrow

FEW = {
    "data.train_limit": 256, "data.test_limit": 40, "distill.epochs": 1, "distill.min_steps": 0, "prune.norm_images": 64,
    "prune.pruning_ratio": 0.5, "prune.round_to": 4, "calibrate.images": 32, "measure.queries": 100, "measure.warmup": 0,
    "measure.throughput": [1], "gate.max_drop": 100.0, "expect.top1": 0.0,
}  # fmt: skip


@pytest.mark.slow
def test_a_checkpoint_goes_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "TOOLS", whole.TOOLS[:1])  # the others have tests of their own
    monkeypatch.setattr(turns, "WARMUP", 0.0)
    monkeypatch.setattr(whole, "OPEN", {"onnxruntime": whole.OPEN["onnxruntime"]})
    recipe = load_recipe("resnet18", None, FEW | {"checkpoint": narrow(tmp_path)}, list(whole.OPEN))
    results = tmp_path / "RESULTS.md"
    section("resnet18, the whole way", recipe, Stages(tmp_path / "stages"), 20, results)
    text = results.read_text()
    assert "## resnet18, the whole way" in text and "1 epoch(s) of fine-tuning each way" in text
    lines = [cells_of(line) for line in text.split("### onnxruntime")[1].splitlines() if line.startswith("| ")]
    rows = {name: cells for name, *cells in lines}
    (tool,) = whole.TOOLS
    assert list(rows) == ["engine", "FP32", "respress, FP32", "respress", f"PTQ only, {tool}", f"torch-pruning, {tool}"]
    columns = rows.pop("engine")
    size, params, macs, minutes = (columns.index(name) for name in ("MB", "M params", "M MACs", "minutes"))
    assert rows["FP32"][minutes] == "" and float(rows["respress"][minutes]) >= float(rows["respress, FP32"][minutes])
    assert rows["FP32"][params] == rows[f"PTQ only, {tool}"][params] != rows["respress"][params]
    ours, theirs = (float(rows[name][macs]) for name in ("respress", f"torch-pruning, {tool}"))
    assert ours == pytest.approx(theirs, rel=0.1) and all(float(row[size]) > 0 for row in rows.values())


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
