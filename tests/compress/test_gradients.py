"""The norms of the gradients: those of the real gradients, for every trained layer, and without any effect on the training."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, fit
from compress.gradients import STEPS, Gradients
from compress.schedule import Schedule
from models.resnet import ResNet
from tests.compress.parts import TINY
from tests.conftest import Small


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def with_gradients(values: dict[str, float]) -> nn.Module:
    """A network with a layer per name, whose gradient is this value at every weight."""
    model = nn.ModuleDict({name: nn.Linear(2, 3) for name in values})
    for name, value in values.items():
        layer = model[name]
        assert isinstance(layer, nn.Linear)
        layer.weight.grad = torch.full_like(layer.weight, value)
    return model


def test_norms_are_those_of_the_gradients(tmp_path: Path) -> None:
    gradients = Gradients(with_gradients({"first": 1.0, "second": -2.0}))
    gradients.after(0, 1)
    gradients.finish_epoch()
    gradients.save(tmp_path)
    found = json.loads((tmp_path / "gradients.json").read_text())
    assert found == {"layers": ["first", "second"], "epochs": [pytest.approx([6**0.5, 2 * 6**0.5])]}


def test_a_layer_without_gradients_has_no_norm_and_a_frozen_one_is_left_out() -> None:
    model = with_gradients({"trained": 1.0, "skipped": 1.0, "frozen": 1.0})
    model["skipped"].weight.grad = None  # type: ignore[index]
    model["frozen"].requires_grad_(False)  # type: ignore[index]
    gradients = Gradients(model)
    gradients.after(0, 1)
    gradients.finish_epoch()
    assert list(gradients.weights) == ["trained", "skipped"]
    assert gradients.epochs == [[pytest.approx(6**0.5), None]]


@pytest.mark.parametrize(("steps", "read"), [(1, 1), (2, 2), (3, 3), (4, 4), (1000, STEPS)])
def test_few_steps_of_an_epoch_are_read_and_their_mean_is_kept(steps: int, read: int) -> None:
    model = with_gradients({"only": 1.0})
    gradients = Gradients(model)
    for step in range(steps):
        gradients.after(step, steps)
    assert len(gradients.read) == read
    gradients.finish_epoch()
    assert gradients.epochs == [[pytest.approx(6**0.5)]] and not gradients.read


def test_reading_does_not_change_the_training(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(out: Path) -> dict[str, Tensor]:
        out.mkdir()
        torch.manual_seed(0)
        model = ResNet(TINY)
        fit(Task(model, loss, small.images, "tiny"), Schedule(epochs=2, batch_size=64), out)
        return model.state_dict()

    with_norms = trained(tmp_path / "with")
    monkeypatch.setattr(Gradients, "after", lambda self, step, steps: None)
    without = trained(tmp_path / "without")
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_norms.items())
    found = json.loads((tmp_path / "with" / "gradients.json").read_text())
    layers = [name.removesuffix(".weight") for name, p in ResNet(TINY).named_parameters() if p.ndim > 1]
    assert found["layers"] == layers
    assert len(found["epochs"]) == 2 and all(norm > 0 for epoch in found["epochs"] for norm in epoch)
