"""A checkpoint that a user could bring, small enough to be pressed in seconds."""

from pathlib import Path

import torch

from models.checkpoint import save
from models.resnet import ResNet, Spec

NARROW = Spec(
    arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=16,
    widths=(((16, 16),) * 2, ((16, 16),) * 2, ((32, 32),) * 2, ((32, 32),) * 2),
)  # fmt: skip


def narrow(folder: Path) -> Path:
    """The file of an untrained resnet18 of 16 and 32 channels, with what the data sets' images go through beside it."""
    torch.manual_seed(0)
    save(ResNet(NARROW), NARROW, folder)
    return folder / "model.safetensors"
