"""The networks for CIFAR through whole runs, with both kinds of shortcuts: they are trained, get fewer blocks, are searched,
and one of them is swept."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main

FEW = [
    "data.train_limit=256", "data.test_limit=64", "expect.top1=0", "train.epochs=1", "train.batch_size=32", "distill.epochs=1",
    "distill.min_steps=0", "distill.batch_size=32", "prune.norm_images=32", "prune.gradient_images=32", "calibrate.images=16",
    "levels.first=channels", "levels.halvings=0", 'levels.allocations=["importance"]', "measure.queries=10",
    "measure.throughput=[1]", "measure.warmup=0", "calibrate.method=max",
]  # fmt: skip
SHORTCUTS = {"A": "padding", "B": "projection"}


def run(monkeypatch: pytest.MonkeyPatch, command: str, model: str, out: Path, *arguments: str) -> int:
    changes = [part for change in FEW for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["pipeline", command, model, "--out", str(out), *changes, *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def compressed(monkeypatch: pytest.MonkeyPatch, model: str, out: Path, *arguments: str) -> dict[str, Any]:
    """The report of a run whose gate lets everything pass."""
    assert run(monkeypatch, "compress", model, out, "--targets", "onnxruntime", "--max-drop", "100", *arguments) == 0
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    assert [row["id"] for row in report["rows"] if row["ships"]]
    return report


def spec_of(stage: Path) -> dict[str, Any]:
    """What the finished `stage` says about its network."""
    spec: dict[str, Any] = json.loads((stage / "model.json").read_text())
    return spec


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "student", "share", "option"),
    [
        ("resnet20", None, 0.5, "B"),
        ("resnet32", "resnet20", 0.35, "A"),  # resnet20 has six tenths of the MACs
    ],
)
def test_a_network_for_cifar_is_trained_and_searched(
    model: str, student: str | None, share: float, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--set", f"train.shortcut={SHORTCUTS[option]}", *(["--set", f"student.arch={student}"] if student else [])]
    assert run(monkeypatch, "train", model, tmp_path, *settings) == 0
    (trained,) = (tmp_path / "stages").glob("train-*")
    assert (spec_of(trained)["arch"], spec_of(trained)["shortcut"]) == (model, SHORTCUTS[option])

    report = compressed(monkeypatch, model, tmp_path, *settings, "--set", f"levels.shares=[{share}]")
    shares = [level["share"] for level in report["levels"]]
    assert len(shares) == 1 + bool(student) and share - 0.06 < shares[-1] < share + 0.06
    assert any(note.startswith("The search built ") for note in report["notes"])

    if not student:
        report = compressed(monkeypatch, model, tmp_path, *settings, "--sweep", "0.2,0.6")
        rows = {row["variant"]: row["macs"] for row in report["rows"] if row["id"].startswith("student-int8")}
        assert len(rows) == 2 and len(set(rows.values())) == 2
    depth = (int((student or model).removeprefix("resnet")) - 2) // 6
    for stage in (tmp_path / "stages").glob("distill-*"):
        spec = spec_of(stage)
        assert (spec["arch"], spec["shortcut"], *map(len, spec["widths"])) == (
            student or model, SHORTCUTS[option], depth, depth, depth
        )  # fmt: skip
