"""Small data sets cut out of a larger one, and a network that trains on them in a second."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.checkpoint import save
from models.resnet import ResNet, Spec

TINY = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=8, widths=(((8, 8),), ((8, 8),)))


def part_of(images: Path, out: Path, *, classes: int = 10, train: int | None = None, val: int | None = None) -> Path:
    """`out`, with the first `classes` of `images` (an array set), and of their images the first `train` and `val`."""
    out.mkdir()
    dataset = json.loads((images / "dataset.json").read_text())
    dataset["classes"] = dataset["classes"][:classes]
    for name, limit in (("train", train), ("val", val), ("test", None)):
        labels = np.load(images / f"{name}.labels.npy")
        chosen = np.flatnonzero(labels < classes)[:limit]
        np.save(out / f"{name}.labels.npy", labels[chosen])
        np.save(out / f"{name}.images.npy", np.load(images / f"{name}.images.npy")[chosen])
        dataset["splits"][name] = len(chosen)
    (out / "dataset.json").write_text(json.dumps(dataset))
    return out


def tiny(out: Path, spec: Spec = TINY) -> Path:
    """`out`, with an untrained network of `spec`."""
    torch.manual_seed(0)
    out.mkdir()
    save(ResNet(spec), spec, out)
    return out


def own_network(num_classes: int = 10) -> nn.Module:
    """What a user brings: MODEL=tests.compress.parts:own_network; 1 channel, any size."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(8, num_classes),
    )  # fmt: skip
