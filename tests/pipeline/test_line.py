"""The whole line on real Fashion-MNIST images, as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.profile import here
from export import targets
from models.resnet import ResNet, family_spec

PROJECT = Path(__file__).resolve().parents[2]
SMALL = [
    "data.train_limit=1500", "data.test_limit=300", "train.epochs=1", "distill.epochs=1", "distill.min_steps=0",
    "calibrate.images=64", "measure.queries=100", "measure.throughput=[1,2]", "prune.norm_images=256", "ladder.rungs=[]",
    "prune.pruning_ratio=0.5",
]  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_from_nothing_to_a_gated_report(tmp_path: Path) -> None:
    small = [part for change in SMALL for part in ("--set", change)]
    command = ["compress", "resnet18", "--out", str(tmp_path / "run"), *small]
    first = run(*command, "--max-drop", "60")
    assert first.returncode == 0, first.stdout + first.stderr
    report = json.loads((tmp_path / "run/report.json").read_text())
    rows = {row["id"]: row for row in report["rows"]}
    int8 = rows["student-int8/onnxruntime"]
    assert int8["int8_share"] > 0.99
    assert int8["size_bytes"] * 10 < rows["baseline-fp32/onnxruntime"]["size_bytes"]
    assert rows["baseline-fp32/torch"]["accuracy"] == rows["baseline-fp32/onnxruntime"]["accuracy"]
    for target in ("openvino", "tensorrt_rtx"):  # 16-bit floats beside INT8, wherever there are any
        half = None if targets.get(target).unavailable() else targets.get(target).half(here())
        assert half is None or rows[f"student-{half}/{target}"]["precision"] == half
    if targets.get("tensorrt").unavailable():  # what only the device can build waits for it in the bundle
        assert rows["student-int8/tensorrt"]["ships"] and rows["student-int8/tensorrt"]["status"] == "prepared"
        assert os.access(tmp_path / "run/bundle/tensorrt/build.sh", os.X_OK)
    verify = subprocess.run([sys.executable, "verify.py"], cwd=tmp_path / "run/bundle/onnxruntime", capture_output=True)
    assert verify.returncode == 0, verify.stderr
    stages = len(list((tmp_path / "run/stages").iterdir()))

    # A second run with another limit builds nothing, judges again, and takes the failed engine out of the bundle.
    again = run(*command, "--max-drop", "-50")
    assert again.returncode == 1, again.stdout + again.stderr
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["gate"]["verdict"] == "fail"
    # Of openvino's engines two could ship, and their times decide which of them is judged. The other one may be judged now.
    ran = [stage["name"] for stage in report["stages"] if not stage["cached"]]
    assert all(name.startswith(("predict ", "alone ", "bundle ")) and "openvino" in name for name in ran), ran
    assert len(list((tmp_path / "run/stages").iterdir())) == stages + len(ran)
    assert not (tmp_path / "run/bundle/onnxruntime").exists()

    # bundle/ holds what the last report says ships, and nothing of earlier runs.
    third = run(*command, "--max-drop", "60", "--targets", "onnxruntime")
    assert third.returncode == 0, third.stdout + third.stderr
    assert sorted(path.name for path in (tmp_path / "run/bundle").iterdir()) == ["README.md", "onnxruntime", "triton"]
    assert [path.name for path in (tmp_path / "run/bundle/triton").iterdir()] == ["resnet18-onnxruntime"]

    # An engine that was asked for and cannot be built costs exit code 3, not the others' rows.
    if importlib.util.find_spec("tensorrt_rtx"):
        impossible = ["--set", 'targets.tensorrt_rtx.compute_capabilities=["SM1"]', "--targets", "onnxruntime,tensorrt_rtx"]
        fourth = run(*command, "--max-drop", "60", *impossible)
        assert fourth.returncode == 3, fourth.stdout + fourth.stderr
        rows = {row["id"]: row for row in json.loads((tmp_path / "run/report.json").read_text())["rows"]}
        assert rows["student-int8/onnxruntime"]["ships"]
        assert "build failed: unknown compute capability SM1" in rows["student-int8/tensorrt_rtx"]["reason"]

        # One that is refused for a single row leaves the others: Turing has no float32 gemm.
        turing = ["--set", 'targets.tensorrt_rtx.compute_capabilities=["SM75"]', "--targets", "tensorrt_rtx"]
        fifth = run(*command, "--max-drop", "60", *turing)
        assert fifth.returncode == 0, fifth.stdout + fifth.stderr
        rows = {row["id"]: row for row in json.loads((tmp_path / "run/report.json").read_text())["rows"]}
        assert "FP32 GEMM is not supported" in rows["student-fp32/tensorrt_rtx"]["reason"]
        assert rows["student-fp16/tensorrt_rtx"]["ships"] and rows["student-int8/tensorrt_rtx"]["status"] == "built"


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2_of_the_command_itself(tmp_path: Path) -> None:
    """The other cases are in test_hostile.py, within one process."""
    another = tmp_path / "resnet34.pth"
    torch.save(ResNet(family_spec("resnet34", num_classes=10, in_channels=1)).state_dict(), another)
    cases = [
        (["--checkpoint", str(another)], "this is a resnet34, 10 classes; MODEL says resnet18"),
        (["--set", "checkpoint=typo.pth"], "typo.pth cannot be read (no such file or directory)"),
    ]
    for arguments, message in cases:
        found = run("compress", "resnet18", *arguments, "--out", str(tmp_path / "out"))
        assert found.returncode == 2, (arguments, found.stderr)
        assert message in found.stderr and len(found.stderr.strip().splitlines()) == 1, found.stderr
