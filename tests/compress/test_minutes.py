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
from compress.minutes import ROUND, WARM, Pace, pace_of
from compress.schedule import Schedule, optimizer_for
from data.loader import Split, batches
from models.resnet import ResNet
from tests.compress.parts import TINY, part_of
from tests.conftest import Small


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(60, 60), (59, 58), (40, 40), (21, 20), (23, 21), (10, 8), (2, 1), (0, 1), (-5, 1)],
)
def test_steps_that_fit_with_an_evaluation_after_each_epoch(seconds: float, expected: int) -> None:
    """A step takes 0.9 s, an evaluation 2 s, and an epoch has 20 steps."""
    assert Pace(0.9, 2.0).steps_within(seconds, steps=20) == expected


def test_minutes_are_a_positive_number() -> None:
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="minutes"):
            Schedule(epochs=1, minutes=wrong)
        with pytest.raises(ValidationError, match="most_minutes"):
            Schedule(epochs=1, most_minutes=wrong)


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

    pace = pace_of(model, noted, lambda: batches(split, 64, shuffle=True), lambda: judged.append(True), 1e-6)
    assert pace.step > 0 and pace.evaluation > 0 and judged == [True]
    assert sum(shares.values()) == WARM + ROUND and sorted(shares) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_epoch_that_does_not_fit_is_cut_into_steps(small: Small, tmp_path: Path) -> None:
    """Too little time for anything: one step all the same, and a note."""
    torch.manual_seed(0)
    schedule = Schedule(epochs=5, min_steps=99, minutes=1e-6, batch_size=64)
    metrics = fit(Task(ResNet(TINY), loss, small.images, "short"), schedule, tmp_path)
    steps = len(Split(small.images, "train")) // 64
    assert steps > 1 and metrics["epochs"] == round(1 / steps, 2) and len(metrics["history"]) == 1
    assert [note.startswith("short: 1e-06 minutes are too short for one epoch (") for note in metrics["notes"]] == [True]
    nothing = fit(Task(ResNet(TINY), loss, small.images, "none"), Schedule(epochs=0, minutes=9), tmp_path / "none")
    assert nothing["epochs"] == 0 and nothing["notes"] == []


@pytest.mark.parametrize(("limit", "expected"), [(100.0, 2), (45.0, 1.5)], ids=["epochs fit", "epochs take longer"])
def test_a_limit_in_minutes_never_adds_epochs(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, expected: float
) -> None:
    steps = len(Split(small.images, "train")) // 64
    monkeypatch.setattr(compress.fit, "pace_of", lambda *_: Pace(30.5 * 60 / steps, 1e-9))
    torch.manual_seed(0)
    schedule = Schedule(epochs=2, most_minutes=limit, batch_size=64)
    metrics = fit(Task(ResNet(TINY), loss, small.images, "limited"), schedule, tmp_path)
    assert metrics["epochs"] == pytest.approx(expected, abs=0.5 / steps + 0.05) and metrics["notes"] == []


def test_an_interruption_keeps_the_number_of_epochs(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pulled(Exception):
        """The plug is pulled."""

    def pulled(share: float) -> None:
        if share > 0.6:
            raise Pulled

    schedule = Schedule(epochs=1, minutes=95, batch_size=64)
    steps = len(Split(small.images, "train")) // 64
    torch.manual_seed(0)
    model = ResNet(TINY)
    # The clock of a machine on which an epoch takes 29 minutes, and then of a quicker one.
    monkeypatch.setattr(compress.fit, "pace_of", lambda *_: Pace(29 * 60 / steps, 0))
    with pytest.raises(Pulled):
        fit(Task(model, loss, small.images, "first", before_step=pulled), schedule, tmp_path)
    monkeypatch.setattr(compress.fit, "pace_of", lambda *_: Pace(9 * 60 / steps, 0))
    metrics = fit(Task(model, loss, small.images, "second"), schedule, tmp_path)
    assert 3 < metrics["epochs"] < 3.5 and len(metrics["history"]) == 4 and metrics["notes"] == []
