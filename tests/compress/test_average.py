"""The moving average of a training's weights is that of its steps, and it is what the training leaves."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.average import Average, copied
from compress.fit import Task, fit
from compress.schedule import Schedule
from models.resnet import ResNet
from tests.compress.parts import TINY, part_of
from tests.conftest import Small


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_training_leaves_the_average_over_its_steps(small: Small, tmp_path: Path, decay: float) -> None:
    images = part_of(small.images, tmp_path / "images", train=192, val=0)  # nothing held out: the last epoch is kept
    torch.manual_seed(0)
    model = ResNet(TINY)
    seen: list[dict[str, Tensor]] = []

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(copied(network))  # before every step
        return cross_entropy(network(x), y)

    schedule = Schedule(epochs=2, batch_size=64, ema=decay)
    fit(Task(model, loss, images, "averaged"), schedule, tmp_path)
    last: dict[str, Tensor] = torch.load(tmp_path / "epoch.pt", weights_only=True)["model"]
    expected, after = seen[0], [*seen[1:], last]
    assert len(after) == 6
    for step, weights in enumerate(after):
        keep = min(decay, (1 + step) / (10 + step))
        for name, tensor in weights.items():
            mixed = keep * expected[name] + (1 - keep) * tensor
            expected[name] = mixed if tensor.is_floating_point() else tensor
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    assert not torch.equal(model.conv1.weight, last["conv1.weight"])
    assert (model.bn1.running_mean - last["bn1.running_mean"]).abs().max() > 1e-4  # the statistics are averaged too


def test_the_average_is_lent_and_given_back() -> None:
    torch.manual_seed(0)
    model = ResNet(TINY)
    average = Average(model, 0.9)
    started = copied(model)
    with torch.no_grad():
        model.fc.bias += 1
    with pytest.raises(KeyboardInterrupt), average.inside(model):
        assert torch.equal(model.fc.bias, started["fc.bias"])
        raise KeyboardInterrupt
    assert torch.equal(model.fc.bias, started["fc.bias"] + 1)
