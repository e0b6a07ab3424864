"""The README's commands and its Python example, run as they stand, on few images and with a short recipe."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import respress
from models.resnet import ResNet, family_spec
from tests.pipeline.test_readme import PROJECT, README, blocks, commands
from tests.widths import narrow

SHORT: dict[str, Any] = {
    "data.train_limit": 1000, "data.test_limit": 100, "train.epochs": 1, "distill.epochs": 1, "distill.min_steps": 0,
    "prune.norm_images": 32, "calibrate.images": 32, "measure.queries": 10, "measure.warmup": 0,
    "measure.throughput": [1], "ladder.rungs": [], "prune.pruning_ratio": 0.5, "train.augment": {"flip": False, "shift": 0},
}  # fmt: skip
ELSEWHERE = ("quick", "test", "check", "measure")  # `make measure` needs a device: see test_devices_page.py
UNTRAINED = {"expect.top1": 1}  # a checkpoint of random weights is meant, and not a mistake
pytestmark = pytest.mark.slow


def checkpoint(arch: str, path: Path, **spec: Any) -> Path:
    torch.manual_seed(0)
    torch.save(ResNet(narrow(family_spec(arch, **spec))).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Makefile, and with the mine.pth and my-images that the README names. The runs end in its runs/."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "Makefile").symlink_to(PROJECT / "Makefile")
    checkpoint("resnet50", folder / "mine.pth", num_classes=2)
    (folder / "preprocess.json").write_text(json.dumps({"input_size": 32}))
    pixels = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 15)):
        for label, brightness in (("cat", 0), ("dog", 100)):
            (folder / "my-images" / split / label).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels.integers(brightness, brightness + 156, (40, 44, 3), np.uint8))
                image.save(folder / "my-images" / split / label / f"{i}.png")
    return folder


def flags(changes: Mapping[str, Any]) -> str:
    return shlex.join(part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}"))


@pytest.mark.parametrize("command", [line for line in commands(README) if line.split()[1] not in ELSEWHERE])
def test_the_command_runs(command: str, desk: Path, tmp_path: Path) -> None:
    """Variables of the environment are variables of make, so the command stays as it is."""
    changes = SHORT | (UNTRAINED if "CHECKPOINT" in command else {})
    if "resnet101" in command:  # a test has no time to train a full one from nothing
        narrowed = checkpoint("resnet101", tmp_path / "narrow.pth", num_classes=10, in_channels=1)
        changes = SHORT | UNTRAINED | {"checkpoint": str(narrowed)}
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment |= {"PYTHONPATH": str(PROJECT), "TARGETS": "onnxruntime", "ARGS": flags(changes)}
    made, *words = shlex.split(command)
    line = [made, "-o", ".venv/.ready", *words]  # the environment that runs the tests is the one to use
    done = subprocess.run(line, cwd=desk, env=environment, capture_output=True, text=True)
    printed = done.stdout.splitlines()
    assert (done.returncode, printed[-1]) == (2, "exit code 1: gate failed") or done.returncode == 0, done.stdout + done.stderr
    if words[0] == "compress":
        (made_report,) = (desk / "runs").glob(f"{words[1].removeprefix('MODEL=')}*/report.json")
        report = respress.load_report(made_report.parent)
        assert report.gate.verdict == ("fail" if done.returncode else report.gate.verdict)
        (target,) = {word.removeprefix("TARGETS=") for word in words if word.startswith("TARGETS=")} or {"onnxruntime"}
        assert {f"baseline-fp32/{target}", f"student-int8/{target}"} <= {row.id for row in report.rows}


def test_the_python_example_runs(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr(respress, "compress", partial(respress.compress, changes=SHORT | UNTRAINED))
    (example,) = blocks(README, "python")
    names: dict[str, Any] = {}
    exec(compile(example, str(README), "exec"), names)
    assert "student-int8/onnxruntime" in capsys.readouterr().out
    report = names["report"]
    assert isinstance(report, respress.Report) and report.model == "resnet50"
    assert report == respress.load_report("runs/resnet50-mine+my-images")
    assert report.command.startswith(
        "respress.compress('resnet50', checkpoint='mine.pth', data='my-images', targets=['onnxruntime']"
    )
