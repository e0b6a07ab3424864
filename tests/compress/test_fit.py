"""The loop at its edges: few images, none held out, a learning rate of its own for a part."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress import fit as loop
from compress.fit import Task, fit
from compress.schedule import Schedule, epochs_of, optimizer_for, set_lr
from compress.train import Train, train
from data.index import Data, index
from data.loader import Split
from models.resnet import ResNet
from tests.compress.parts import TINY, part_of
from tests.conftest import Small


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def test_epochs_are_added_until_min_steps_are_reached() -> None:
    assert epochs_of(Schedule(epochs=3, min_steps=100), steps=7) == 15
    assert epochs_of(Schedule(epochs=3, min_steps=100), steps=50) == 3
    assert epochs_of(Schedule(epochs=3), steps=1) == 3
    assert epochs_of(Schedule(epochs=0, min_steps=100), steps=7) == 0


def test_fewer_images_than_a_batch_and_none_held_out_still_train(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", classes=2, train=9, val=0)
    assert len(Split(images, "train")) == 9
    torch.manual_seed(0)
    model = ResNet(TINY)
    before = model.conv1.weight.detach().clone()
    metrics = fit(Task(model, loss, images, "few"), Schedule(epochs=1, min_steps=4, batch_size=64), tmp_path)
    assert metrics["epochs"] == metrics["best_epoch"] == len(metrics["history"]) == 4
    assert [epoch["val_top1"] for epoch in metrics["history"]] == [None] * 4
    assert metrics["history"][-1]["loss"] < metrics["history"][0]["loss"]
    assert not torch.equal(model.conv1.weight, before)
    last = torch.load(tmp_path / "epoch.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("keep", "last"), [("best", False), ("last", True)])
def test_the_weights_are_those_of_the_epoch_to_keep(
    keep: Literal["best", "last"], last: bool, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = part_of(small.images, tmp_path / "images", classes=2, train=9)
    falling = iter([3.0, 2.0, 1.0])  # the first epoch is the best on the held-out images
    monkeypatch.setattr(loop, "top1", lambda model, split: next(falling))
    model = ResNet(TINY)
    metrics = fit(Task(model, loss, images, "few"), Schedule(epochs=3, batch_size=64, keep=keep), tmp_path)
    assert metrics["best_epoch"] == 1
    at_end = torch.load(tmp_path / "epoch.pt", weights_only=True)["model"]
    assert torch.equal(model.conv1.weight, at_end["conv1.weight"]) == last


def test_every_group_follows_the_cycle_up_to_its_own_learning_rate() -> None:
    model = ResNet(TINY)
    model.conv1.requires_grad_(False)
    optimizer = optimizer_for(model, Schedule(epochs=1), lambda name: 0.5 if name.startswith("fc.") else 0.05)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in model.parameters()} - {id(model.conv1.weight)}
    assert len(trained) == len(list(model.parameters())) - 1
    seen = []
    for step in range(100):
        set_lr(optimizer, 0.2, step, 100)
        rates = {g["lr"] for g in optimizer.param_groups}
        assert max(rates) == pytest.approx(10 * min(rates))
        seen.append(max(rates))
    assert max(seen) == seen[19] == pytest.approx(0.5)
    assert seen[0] == pytest.approx(0.5 / 20) and seen[-1] < 0.001
    for group in optimizer.param_groups:
        assert group["weight_decay"] == (5e-4 if group["params"][0].ndim > 1 else 0)


def test_one_class_is_nothing_to_train_on(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", classes=1)
    assert set(np.load(images / "train.labels.npy")) == {0}
    with pytest.raises(ValueError, match=r"only one class \(T-shirt/top\); expected at least 2"):
        train(Train(epochs=1), tmp_path, images=images)


def test_images_that_only_calibrate_are_not_trained_on(tmp_path: Path) -> None:
    """A folder with val/ alone: its `train` split is there for calibration, and the gate is on the others."""
    for label in ("cat", "dog"):
        (tmp_path / "pets" / "val" / label).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / "pets" / "val" / label / f"{i}.png")
    images = tmp_path / "images"
    images.mkdir()
    index(Data(name=str(tmp_path / "pets"), input_size=32), images)
    with pytest.raises(ValueError, match="DATA pets has no labelled training images"):
        train(Train(epochs=1), tmp_path, images=images)
