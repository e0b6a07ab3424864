"""The learning rate that a checkpoint's own training began with, from files as people save them."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from models.checkpoint import Load, load_checkpoint
from models.initial_lr import initial_lr
from models.read import read_content
from models.resnet import ResNet
from tests.models.narrow import network


def stepped(optimizer: Optimizer, scheduled: bool = True) -> dict[str, Any]:
    """The state of `optimizer` after a few steps of its schedule."""
    if scheduled:
        schedule = CosineAnnealingLR(optimizer, 4)
        for _ in range(3):
            optimizer.step()
            schedule.step()
    return dict(optimizer.state_dict())


def sgd(model: nn.Module, scheduled: bool = True, **groups: Any) -> dict[str, Any]:
    return stepped(SGD(model.parameters(), lr=0.1, momentum=0.9), scheduled)


def two_groups(model: ResNet) -> dict[str, Any]:
    head = list(model.fc.parameters())
    others = [p for p in model.parameters() if all(p is not q for q in head)]
    return stepped(SGD([{"params": others, "lr": 0.01}, {"params": head}], lr=0.2, momentum=0.9))


FILES: dict[str, tuple[Any, float | None]] = {
    "beside the weights": (lambda m: {"optimizer": sgd(m), "epoch": 3, "args": Namespace(lr=0.5)}, 0.1),
    "in a list, as Lightning": (lambda m: {"optimizer_states": [sgd(m)], "loops": {}}, 0.1),
    "deeper": (lambda m: {"training": {"state": {"optim": sgd(m)}}}, 0.1),
    "the highest of two groups": (lambda m: {"optimizer": two_groups(m)}, 0.2),
    "without a schedule, which may have ended": (lambda m: {"optimizer": sgd(m, scheduled=False)}, None),
    "of Adam, on another scale": (lambda m: {"optimizer": stepped(AdamW(m.parameters(), lr=3e-4))}, None),
    "nothing but the weights": (lambda m: {}, None),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before PyTorch 1.6"])
def test_the_initial_rate_is_read_from_the_state_of_the_optimizer(kind: str, old: bool, tmp_path: Path) -> None:
    model = network()
    beside, expected = FILES[kind]
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": model.state_dict(), **beside(model)}, path, _use_new_zipfile_serialization=not old)
    assert initial_lr(read_content(path)) == expected
    if not old:
        (tmp_path / "out").mkdir()
        assert load_checkpoint(Load(arch="resnet18"), tmp_path / "out", checkpoint=path)["initial_lr"] == expected


@pytest.mark.parametrize("rate", [0, -0.1, float("nan"), float("inf"), "0.1", None, torch.tensor(0.1)])
def test_what_is_no_rate_is_ignored(rate: Any) -> None:
    state = {"state": {}, "param_groups": [{"initial_lr": rate, "nesterov": False, "params": []}]}
    assert initial_lr({"optimizer": state}) is None
