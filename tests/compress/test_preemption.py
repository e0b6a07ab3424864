"""SIGTERM or SIGUSR2 in a training: the step is finished and saved, and the training continues with the next one."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, fit
from compress.schedule import Schedule
from core import stop
from data.loader import Split
from models.checkpoint import load, save
from models.resnet import ResNet, Spec
from tests.conftest import Small

TINY = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=8, widths=(((8, 8),), ((8, 8),)))
BATCH = 128
STEPS = 8  # of 2 epochs


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    stop.on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop.received = None


def deliver(number: int) -> None:
    """Call the handler of the signal, as Python does after it arrived.

    A real signal would run on the signal stack of this process, which OpenVINO may have overwritten in an earlier test.
    tests/pipeline/test_launch.py sends real ones to processes of their own.
    """
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


def trained(
    start: Path, images: Path, out: Path, ema: float | None, at: int = -1, number: int = 0
) -> tuple[nn.Module, list[int]]:
    """The model after the training, and the numbers of the steps; in step `at` the process gets the signal `number`."""
    model, _ = load(start)
    seen: list[int] = []

    def before_step(share: float) -> None:
        seen.append(round(share * STEPS))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if len(seen) == at + 2:  # it is called once more when the training begins
            deliver(number)
        return cross_entropy(model(nn.functional.dropout(x, 0.1)), y)

    out.mkdir(exist_ok=True)
    stop.received = None
    try:
        fit(Task(model, loss, images, "test", before_step=before_step), Schedule(epochs=2, batch_size=BATCH, ema=ema), out)
    except stop.Terminated as end:
        assert end.number == number
    return model, seen[1:]


@pytest.mark.parametrize(
    ("number", "at", "ema"), [(signal.SIGTERM, 3, None), (signal.SIGUSR2, 5, 0.9), (signal.SIGUSR2, STEPS - 1, None)]
)
def test_a_training_continues_with_the_next_step(
    number: int, at: int, ema: float | None, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save(ResNet(TINY), TINY, tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert 2 * (len(Split(small.images, "train")) // BATCH) == STEPS
    expected, steps = trained(tmp_path, small.images, whole, ema)
    assert steps == list(range(STEPS))
    _, first = trained(tmp_path, small.images, parts, ema, at, number)
    assert f"{signal.Signals(number).name}: finishing the step" in capsys.readouterr().out
    model, second = trained(tmp_path, small.images, parts, ema)
    assert (first, second) == (list(range(at + 1)), list(range(at + 1, STEPS)))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-4, atol=1e-5)
    whole_norms, norms = (json.loads((out / "gradients.json").read_text())["epochs"] for out in (whole, parts))
    assert norms == [pytest.approx(epoch, rel=1e-2) for epoch in whole_norms]


def test_outside_of_a_training_a_signal_ends_the_process_at_once() -> None:
    with pytest.raises(stop.Terminated):
        deliver(signal.SIGTERM)


def test_the_second_signal_does_not_wait_for_the_step() -> None:
    saved: list[int] = []
    with pytest.raises(stop.Terminated), stop.after_steps(lambda: saved.append(1)):
        deliver(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        deliver(signal.SIGTERM)
    assert not saved


def test_a_training_that_gets_no_more_batches_after_the_signal_is_saved() -> None:
    saved: list[int] = []
    with pytest.raises(stop.Terminated), stop.after_steps(lambda: saved.append(1)):
        deliver(signal.SIGTERM)
        raise ValueError("a worker process was killed")
    assert saved
    stop.received = None
    with pytest.raises(ValueError, match="worker"), stop.after_steps(lambda: saved.append(1)):
        raise ValueError("a worker process was killed")
    assert len(saved) == 1


def test_processes_that_decode_images_go_on_after_sigusr2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "process", os.getppid())
    deliver(signal.SIGUSR2)
    assert stop.received is None


def test_a_signal_after_the_last_step_ends_the_process_when_the_training_has_ended() -> None:
    with pytest.raises(stop.Terminated), stop.after_steps(lambda: None):
        deliver(signal.SIGUSR2)
