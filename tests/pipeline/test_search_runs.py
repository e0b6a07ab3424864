"""Whole runs that search how much to prune, with small networks of users: something ships in every case but one."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline.page
from pipeline.__main__ import main

QUICK = [
    "measure.queries=10", "measure.throughput=[1]", "measure.warmup=0", "calibrate.images=32",
    "calibrate.method=max",
    "train.epochs=3", "train.batch_size=16", "distill.epochs=1", "distill.min_steps=0", "distill.batch_size=16",
    'train.augment={"flip": false}', 'distill.augment={"flip": false}', "prune.norm_images=64",
    "levels.shares=[0.6,0.3]", "levels.halvings=0", "gate.max_class_drop=null",
]  # fmt: skip
FACTORIES = """
import torch
from torch import nn


def build(num_classes=2, in_channels=1):
    def layer(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    features = [layer(in_channels, 16), layer(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(32, num_classes))


class Fixed(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.features = nn.Sequential(build(num_classes, in_channels)[0], nn.AdaptiveAvgPool2d((1, 2)))
        self.classifier = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).reshape(-1, 32))  # the number of channels is a constant


def fixed(num_classes=2, in_channels=1):
    return Fixed(num_classes, in_channels)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are bright at the left or at the right, and a module with two networks."""
    root = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 200)):
        for label in ("left", "right"):
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (16, 16), np.uint8)
                pixels[:, 8 * (label == "right") :][:, :8] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (root / "networks_that_are_searched.py").write_text(FACTORIES)
    sys.path.insert(0, str(root))
    return root


def run(monkeypatch: pytest.MonkeyPatch, place: Path, factory: str, out: Path, *arguments: str) -> int:
    changes = [part for change in QUICK for part in ("--set", change)]
    command = ["compress", f"networks_that_are_searched:{factory}", "--data", str(place / "data"), "--input-size", "16"]
    command += ["--targets", "onnxruntime", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["pipeline", *command, *arguments, *changes])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def ships(report: dict[str, Any]) -> list[str]:
    return [row["id"] for row in report["rows"] if row["ships"]]


@pytest.mark.slow
def test_a_network_that_cannot_be_pruned_ships_its_int8(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, place, "fixed", tmp_path, "--max-drop", "5") == 0
    report = report_of(tmp_path)
    assert ships(report) == ["student-int8[unpruned]/onnxruntime"] and report["levels"] == []
    assert [
        note for note in report["notes"] if note.startswith("The search ends before 60% of MACs: torch-pruning cannot take")
    ]


@pytest.mark.slow
def test_an_interrupted_search_leaves_a_bundle_and_the_same_command_continues(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.page, "hardest", interrupted)
        assert run(patch, place, "build", tmp_path, "--max-drop", "5") == 130
    report = report_of(tmp_path)
    assert ships(report) == ["student-int8[unpruned]/onnxruntime"] and report["gate"]["verdict"] == "pass"
    assert report["notes"][0] == pipeline.page.NOT_ENDED
    assert (tmp_path / "bundle/onnxruntime/verify.py").exists()

    assert run(monkeypatch, place, "build", tmp_path, "--max-drop", "5") == 0
    report = report_of(tmp_path)
    assert pipeline.page.NOT_ENDED not in report["notes"]
    assert [level["name"] for level in report["levels"]][:1] == ["60% of MACs"]


@pytest.mark.slow
def test_where_nothing_passes_the_last_lines_say_why(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, place, "build", tmp_path, "--max-drop", "-60") == 1
    assert ships(report_of(tmp_path)) == [] and not (tmp_path / "bundle").exists()
    lines = capfd.readouterr().out.splitlines()
    assert any("student-int8[unpruned]/onnxruntime fails the gate and does not ship: +" in line for line in lines[-8:])
    assert lines[-1] == "exit code 1: gate failed"
