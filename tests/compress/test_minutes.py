"""A training by minutes: timing leaves no trace, the number of epochs is fixed once."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import compress.fit
from compress.average import copied
from compress.fit import Task, fit, step_of
from compress.minutes import ROUND, WARM, epochs_within, seconds_of_an_epoch
from compress.schedule import Schedule, optimizer_for
from data.loader import Split, batches
from models.resnet import ResNet
from tests.compress.parts import TINY, part_of
from tests.conftest import Small


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def test_whole_epochs_that_fit_and_at_least_one() -> None:
    assert epochs_within(60, 20) == 3
    assert epochs_within(59, 20) == 2
    assert epochs_within(10, 20) == epochs_within(-5, 20) == 1
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="minutes"):
            Schedule(epochs=1, minutes=wrong)


def test_timing_takes_whole_rounds_and_leaves_the_network_as_it_was(small: Small, tmp_path: Path) -> None:
    """Of fewer images than are timed: they are shown again."""
    images = part_of(small.images, tmp_path / "images", train=128)
    split = Split(images, "train")
    torch.manual_seed(0)
    model = ResNet(TINY)
    before, shares = copied(model), Counter[float]()
    step = step_of(model, loss, optimizer_for(model, Schedule(epochs=1), lambda name: 0.0))
    judged: list[bool] = []

    def noted(share: float, x: Tensor, y: Tensor) -> Tensor:
        shares.update([share])
        return step(x, y)

    seconds = seconds_of_an_epoch(model, noted, lambda: batches(split, 64, shuffle=True), 2, lambda: judged.append(True), 1e-6)
    assert seconds > 0 and judged == [True]
    assert sum(shares.values()) == WARM + ROUND and sorted(shares) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_minutes_count_and_epochs_do_not(small: Small, tmp_path: Path) -> None:
    """Too little time for anything: one epoch all the same, and it says so."""
    torch.manual_seed(0)
    metrics = fit(Task(ResNet(TINY), loss, small.images, "short"), Schedule(epochs=5, min_steps=99, minutes=1e-6), tmp_path)
    assert metrics["epochs"] == len(metrics["history"]) == 1
    assert [note.startswith("short: --minutes 1e-06 is too short for one epoch (") for note in metrics["notes"]] == [True]
    nothing = fit(Task(ResNet(TINY), loss, small.images, "none"), Schedule(epochs=0, minutes=9), tmp_path / "none")
    assert nothing["epochs"] == 0 and nothing["notes"] == []


def test_an_interruption_keeps_the_number_of_epochs(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pulled(Exception):
        """The plug is pulled."""

    def pulled(share: float) -> None:
        if share > 0.6:
            raise Pulled

    schedule = Schedule(epochs=1, minutes=100, batch_size=64)
    torch.manual_seed(0)
    model = ResNet(TINY)
    # The clock of a machine on which an epoch takes 29 minutes, and then of a quicker one.
    monkeypatch.setattr(compress.fit, "seconds_of_an_epoch", lambda *_: 29 * 60)
    with pytest.raises(Pulled):
        fit(Task(model, loss, small.images, "first", before_step=pulled), schedule, tmp_path)
    monkeypatch.setattr(compress.fit, "seconds_of_an_epoch", lambda *_: 9 * 60)
    metrics = fit(Task(model, loss, small.images, "second"), schedule, tmp_path)
    assert metrics["epochs"] == len(metrics["history"]) == 3 and metrics["notes"] == []
