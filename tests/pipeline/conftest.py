"""A finished run of a tiny network, and a device on the loopback address to measure it on."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.resnet import ResNet, family_spec
from pipeline import page
from pipeline.recipe import load_recipe
from pipeline.run import run
from tests.pipeline.loopback import SSHD, Loopback, loopback
from tests.widths import narrow

SHORT = {
    "data.train_limit": 300, "data.test_limit": 200, "calibrate.images": 32, "ladder.rungs": [], "finetune": False,
    "measure.queries": 20, "measure.seconds": 1, "measure.warmup": 0, "measure.throughput": [1], "measure.calls": 2,
    "bundle.images": 2, "gate.max_drop": 90,
}  # fmt: skip


@pytest.fixture(scope="session")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run that only quantized a narrow resnet20, for onnxruntime and, prepared where there is no GPU, for tensorrt.

    It is not trained, and the gate is so wide that it ships.
    """
    folder = tmp_path_factory.mktemp("pressed")
    torch.manual_seed(0)
    spec = narrow(family_spec("resnet20", num_classes=10, in_channels=1), 2)
    torch.save(ResNet(spec).state_dict(), folder / "narrow.pth")
    names = ["onnxruntime", "tensorrt"]
    recipe = load_recipe("resnet20", None, {"checkpoint": folder / "narrow.pth", **SHORT}, names)
    only = recipe.model_copy(update={"targets": {name: recipe.targets[name] for name in names}})  # without torch: it is slow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "check", lambda *_: None)  # it is not trained
        run("resnet20", only, names, folder / "out", command="make compress")
    return folder / "out"


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no sshd here: install openssh-server")
    with loopback(tmp_path_factory.mktemp("board"), sys.executable) as board:
        yield board


@pytest.fixture
def board(sshd: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """The device as [board] of devices.toml in the current folder. A test leaves nothing on it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(sshd.entry())
    before = sshd.files()
    yield sshd
    until = time.monotonic() + 10  # a device whose connection was lost cleans up by itself
    while sshd.files() != before and time.monotonic() < until:
        time.sleep(0.05)
    assert sshd.files() == before
