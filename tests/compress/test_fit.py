"""The loop at its edges: few images, none held out, a learning rate of its own for a part."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, fit, step_of
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
    assert metrics["epochs"] == len(metrics["history"]) == 4
    assert [epoch["val_top1"] for epoch in metrics["history"]] == [None] * 4
    assert metrics["history"][-1]["loss"] < metrics["history"][0]["loss"]
    assert not torch.equal(model.conv1.weight, before)
    last = torch.load(tmp_path / "epoch.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items())


def test_the_last_epoch_is_kept_also_where_an_earlier_one_was_better_on_the_held_out_images(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter([90.0, 50.0])
    monkeypatch.setattr("compress.fit.top1", lambda model, split: next(judged))
    torch.manual_seed(0)
    model = ResNet(TINY)
    metrics = fit(Task(model, loss, small.images, "two"), Schedule(epochs=2, batch_size=64), tmp_path)
    assert [epoch["val_top1"] for epoch in metrics["history"]] == [90.0, 50.0]
    last = torch.load(tmp_path / "epoch.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items())


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


def test_the_rate_may_fall_in_drops() -> None:
    optimizer = optimizer_for(ResNet(TINY), Schedule(epochs=1), lambda name: 0.1)
    seen = []
    for step in range(100):
        set_lr(optimizer, 0.02, step, 100, (0.5, 0.75))
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen[0] == pytest.approx(0.05)
    assert seen[1:50] == pytest.approx([0.1] * 49)
    assert seen[50:75] == pytest.approx([0.01] * 25) and seen[75:] == pytest.approx([0.001] * 25)


def test_a_batch_in_parts_makes_the_same_step() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(10, 1, 8, 8), torch.arange(10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # batch norm would see the parts
    found = []
    for accumulate in (1, 4):
        copied = copy.deepcopy(model)
        step = step_of(copied, loss, optimizer_for(copied, Schedule(epochs=1), lambda name: 0.1), accumulate=accumulate)
        found.append((float(step(x, y)), copied[1].weight.detach()))
    (whole, expected), (parts, weight) = found
    assert parts == pytest.approx(whole, rel=1e-2)  # bf16, where the CPU has it
    torch.testing.assert_close(weight, expected, rtol=2e-2, atol=1e-3)
    assert not torch.equal(weight, model[1].weight)


def test_gradients_are_clipped_to_their_common_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    schedule = Schedule(epochs=1, momentum=0.5, weight_decay=0)
    step = step_of(model, lambda *given: 100 * loss(*given), optimizer_for(model, schedule, lambda name: 0.1), clip=0.25)
    step(torch.randn(10, 1, 8, 8), torch.arange(10))
    moved = torch.cat([(old - new.detach()).flatten() for old, new in zip(before, model.parameters(), strict=True)])
    assert float(moved.norm()) == pytest.approx(0.1 * 1.5 * 0.25, rel=1e-3)  # Nesterov: the gradient and half of it again


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
