"""Short trainings whose loss at every step is known: an epoch is one batch. They run on one process and on several."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compress.distill import Distill, distill
from compress.quantize_aware import QuantizeAware, quantize_aware
from compress.schedule import Schedule
from compress.train import Train, train
from compress.transfer import Transfer, transfer
from data.augment import Augment
from models.custom import source_of
from tests.several import Work

STEPS = 20
BATCH = 63  # images, all of them: the parts of two processes have different sizes
OWN, PLAIN = "tests.compress.trained:Own", "tests.compress.trained:plain"


class Own(nn.Module):
    """A user's network with batch norms of two kinds, and a layer that is never used."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 24, 3, 2), nn.BatchNorm2d(24, momentum=None), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm, self.unused = nn.BatchNorm1d(24), nn.Linear(2, 2)
        self.fc = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.pool(self.features(x)).flatten(1)))  # type: ignore[no-any-return]


def plain(num_classes: int = 10) -> nn.Module:
    """A user's network without batch norm, which would see one part at a time."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


def settings(kind: type[Schedule], **changes: Any) -> Any:
    return kind(**{"epochs": STEPS, "batch_size": BATCH, "lr": 0.05, **changes})


def trained(given: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return train(settings(Train, **{"arch": OWN, "source": source_of(OWN), **changes}), out, images=given / "images")


def distilled(given: Path, out: Path, **changes: Any) -> dict[str, Any]:
    teacher, student = given / "teacher", given / "student"
    return distill(settings(Distill, **changes), out, student=student, teacher=teacher, images=given / "images")


def transferred(given: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return transfer(settings(Transfer, new_head=True, **changes), out, model=given / "teacher", images=given / "images")


def rounded(given: Path, out: Path, **changes: Any) -> dict[str, Any]:
    teacher, student = given / "teacher", given / "student"
    config = settings(QuantizeAware, images=BATCH, **changes)
    return quantize_aware(config, out, student=student, teacher=teacher, images=given / "images")


WORK: Work = {
    "train": partial(trained, ema=0.9),
    "train with a growing network": partial(trained, arch="resnet20", source=None, epochs=2, grow_at=0.4),
    "train with a policy": partial(trained, policy="trivialaugment", lr=0.02),
    "train on growing images": partial(trained, sizes=(20, 32)),
    "train in parts": partial(trained, epochs=3, accumulate=4, clip=0.5, drops=(0.5,), arch=PLAIN, source=source_of(PLAIN)),
    "distill": partial(distilled, feature=0.5),
    "distill with fixed crops": partial(distilled, epochs=2, augment=Augment(flip=False, shift=0), control=True),
    "transfer": partial(transferred, epochs=2, trainable_blocks=1),
    "transfer to the head": partial(transferred, epochs=2, trainable_blocks=0),
    "quantize-aware": partial(rounded, epochs=2),
    "train without synchronized batch norm": partial(trained, sync_batch_norm=False),
}
