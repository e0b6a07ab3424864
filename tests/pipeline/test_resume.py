"""Killed in the middle of distillation, the same command continues; what it ends with is what it would have ended with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, fit, tidy
from compress.schedule import Schedule
from models.checkpoint import load, save
from models.resnet import ResNet, Spec
from tests.conftest import Small

PROJECT = Path(__file__).resolve().parents[2]
TINY = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=8, widths=(((8, 8),), ((8, 8),)))


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, 0.9])
def test_training_continues_after_its_last_epoch(small: Small, tmp_path: Path, ema: float | None) -> None:
    torch.manual_seed(0)
    save(ResNet(TINY), TINY, tmp_path)
    schedule = Schedule(epochs=3, batch_size=64, ema=ema)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    expected, _ = load(tmp_path)
    history = fit(Task(expected, loss, small.images, "whole"), schedule, whole)["history"]

    class Pulled(Exception):
        """The plug is pulled."""

    def pulled(share: float) -> None:
        if share > 0.5:
            raise Pulled

    model, _ = load(tmp_path)
    with pytest.raises(Pulled):
        fit(Task(model, loss, small.images, "first half", before_step=pulled), schedule, halves)
    assert (halves / "epoch.pt").exists()
    seen: list[float] = []
    model, _ = load(tmp_path)
    task = Task(model, loss, small.images, "second half", before_step=seen.append)
    resumed = fit(task, schedule, halves)["history"]
    assert len(resumed) == len(history) == 3
    for epoch, expected_epoch in zip(resumed, history, strict=True):
        assert epoch == pytest.approx(expected_epoch, rel=1e-3)
    assert min(seen) >= 1 / 3  # the first epoch was not repeated
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-4, atol=1e-5)
    tidy(halves)
    assert [path.name for path in halves.iterdir()] == ["gradients.json"]  # nothing else would get into the artifact
    norms, expected_norms = (json.loads((out / "gradients.json").read_text())["epochs"] for out in (halves, whole))
    assert len(norms) == 3
    assert norms[0] == pytest.approx(expected_norms[0], rel=1e-3) and norms[2] == pytest.approx(expected_norms[2], rel=1e-2)


def test_nan_stops_with_a_clear_error_and_keeps_the_last_good_epoch(small: Small, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"loss became (nan|inf).*learning rate"):
        fit(Task(ResNet(TINY), loss, small.images, "hot"), Schedule(epochs=1, batch_size=32, lr=1e12, warmup=0), tmp_path)


def heed_ctrl_c() -> None:
    """Shells start what they run in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_and_kill_9_in_distillation_then_the_same_command(tmp_path: Path) -> None:
    changes = [
        "data.train_limit=1500", "data.test_limit=200", "train.epochs=1", "distill.epochs=3", "distill.min_steps=0",
        "calibrate.images=64", "measure.queries=100", "measure.throughput=[1,2]", "prune.norm_images=256",
        "prune.pruning_ratio=0.5",
    ]  # fmt: skip
    command = [sys.executable, "-m", "pipeline", "compress", "resnet18", "--out", str(tmp_path), "--targets", "onnxruntime"]
    command += ["--max-drop", "90", *(part for change in changes for part in ("--set", change))]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def stopped_after_an_epoch(how: signal.Signals) -> int:
        def saved() -> list[int]:
            return [path.stat().st_mtime_ns for path in tmp_path.glob("stages/distill-*.partial/*/epoch.pt")]

        before = saved()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log, preexec_fn=heed_ctrl_c)
            deadline = time.monotonic() + 300
            while saved() == before:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
            process.send_signal(how)
            return process.wait()

    assert stopped_after_an_epoch(signal.SIGINT) == 130
    assert "interrupted; the same command continues" in (tmp_path / "log").read_text()
    assert stopped_after_an_epoch(signal.SIGKILL) == -signal.SIGKILL
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    message = again.stdout + again.stderr
    assert again.returncode == 0, message
    assert "train: cached" in message and "prune: cached" in message
    assert "epoch 3/3" in message and "epoch 1/3" not in message and "epoch 2/3" not in message
    distilled = next(tmp_path.glob("stages/distill-*"))
    assert sorted(p.name for p in distilled.iterdir()) == ["gradients.json", "manifest.json", "model.json", "model.safetensors"]
    assert load_file(distilled / "model.safetensors")
