"""SWEEP: several students in one run, the best that passes ships; where none does, the ladder starts from the best of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.options import sweep_of

QUICK = [
    "data.train_limit=640", "data.test_limit=300", "expect.top1=0", "train.epochs=1", "distill.epochs=1", "distill.min_steps=0",
    "calibrate.images=64", "prune.norm_images=128", "measure.queries=10", "measure.throughput=[1]",
    "measure.warmup=0", "prune.residual=false", "ladder.rungs=[\"quantize_aware\"]",
]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    changes = [part for change in QUICK for part in ("--set", change)]
    command = ["pipeline", "compress", "resnet18", "--targets", "onnxruntime", "--out", str(out), *arguments, *changes]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), json.loads((out / "report.json").read_text())


@pytest.mark.slow
def test_the_quickest_student_that_passes_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, report = run(monkeypatch, tmp_path, "--sweep", "0.5,0.9", "--max-drop", "99")
    rows = {row["id"]: row for row in report["rows"] if row["target"] == "onnxruntime"}
    assert code == 0
    assert list(rows) == [
        f"{engine}/onnxruntime"
        for engine in ("baseline-fp32", "student-fp32[0.5]", "student-int8[0.5]", "student-fp32[0.9]", "student-int8[0.9]")
    ]
    half, tenth = rows["student-int8[0.5]/onnxruntime"], rows["student-int8[0.9]/onnxruntime"]
    assert (half["variant"], tenth["variant"]) == ("0.5", "0.9")
    assert tenth["params"] < half["params"] and tenth["size_bytes"] < half["size_bytes"]
    quickest = min((half, tenth), key=lambda row: row["latency_ms"]["p50"])
    assert [row["id"] for row in rows.values() if row["ships"]] == [quickest["id"]]
    assert quickest["front"] and not any(row["front"] for row in rows.values() if row["precision"] == "fp32")
    assert (tmp_path / "bundle/onnxruntime/engine.onnx").stat().st_size == quickest["size_bytes"]
    (note,) = [note for note in report["notes"] if note.startswith("SWEEP on onnxruntime: 2 of 2 engines")]
    assert f"{quickest['id'].split('/')[0]} ships" in note
    assert "Sweep</h2>" in (tmp_path / "report.html").read_text()
    trained = [stage["name"] for stage in report["stages"] if stage["name"].split()[0] in ("train", "distill")]
    assert trained == ["train", "distill 0.5", "distill 0.9"]  # the baseline once

    # the same two students, and a gate that nothing passes
    code, report = run(monkeypatch, tmp_path, "--sweep", "0.5,0.9", "--max-drop", "-100", "--set", "ladder.again=true")
    rows = {row["id"]: row for row in report["rows"] if row["target"] == "onnxruntime"}
    assert code == 1 and not any(row["ships"] for row in rows.values())
    best = min(("0.5", "0.9"), key=lambda label: rows[f"student-int8[{label}]/onnxruntime"]["chosen_on"]["drop"])
    trained_on = rows[f"student-qat[{best}]/onnxruntime"]
    assert trained_on["precision"] == "int8" and trained_on["status"] == "measured" and trained_on["int8_share"] == 1
    assert any("quantization-aware distillation; also fails on the images that choose" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("0.3, .5", {"0.3": {"prune.pruning_ratio": 0.3}, ".5": {"prune.pruning_ratio": 0.5}}),
        ("params=5M,0.5", {"params=5M": {"budget.max_params": 5e6}, "0.5": {"prune.pruning_ratio": 0.5}}),
        (
            "params=5M,macs=1G; params=2M",
            {"params=5M,macs=1G": {"budget.max_params": 5e6, "budget.max_macs": 1e9}, "params=2M": {"budget.max_params": 2e6}},
        ),
    ],
)
def test_ratios_and_budgets_are_read(text: str, found: dict[str, Any]) -> None:
    assert sweep_of(text, {}) == found


@pytest.mark.parametrize(
    ("text", "overrides", "problem"),
    [
        ("0.5", {}, "expected different pruning ratios"),
        ("0.5,0.5", {}, "expected different pruning ratios"),
        ("0.5,1.5", {}, "SWEEP '1.5': expected different pruning ratios"),
        ("0.5,size=no", {}, "BUDGET 'size=no' is not understood"),
        ("0.5,0.7", {"budget.max_params": 5e6}, "SWEEP '0.5,0.7' and BUDGET both say"),
    ],
)
def test_what_is_neither_is_refused(text: str, overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        sweep_of(text, overrides)
