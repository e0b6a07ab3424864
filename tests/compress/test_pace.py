"""How long an epoch takes is measured without a trace, and without the teacher where it predicts only once."""

from pathlib import Path

import pytest
import torch

import compress.pace
from compress.distill import Distill
from compress.minutes import Pace
from compress.pace import pace
from data.augment import Augment
from data.loader import Split
from tests.conftest import Small


@pytest.mark.parametrize(("flip", "alpha"), [(True, 0.9), (False, 0.0)], ids=["crops change", "crops are fixed"])
def test_the_pace_of_an_epoch(flip: bool, alpha: float, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Distill] = []

    def paced(task: object, config: Distill, given: float) -> Pace:
        seen.append(config)
        return Pace(0.5, 3.0)

    monkeypatch.setattr(compress.pace, "pace_on", paced)
    config = Distill(batch_size=64, augment=Augment(flip=flip, shift=0))
    found = pace(config, tmp_path, student=small.model, teacher=small.model, images=small.images)
    steps = len(Split(small.images, "train")) // 64
    assert found == {"images_per_second": 128.0, "seconds_per_epoch": 0.5 * steps + 3, "steps": steps}
    assert seen[0].alpha == alpha and not list(tmp_path.iterdir())


def test_the_network_does_not_change(small: Small, tmp_path: Path) -> None:
    before = (small.model / "model.safetensors").read_bytes()
    torch.manual_seed(0)
    found = pace(Distill(batch_size=64), tmp_path, student=small.model, teacher=small.model, images=small.images)
    assert found["images_per_second"] > 0 and found["seconds_per_epoch"] > 0
    assert (small.model / "model.safetensors").read_bytes() == before
