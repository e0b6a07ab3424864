"""images -> the errors of a plain or a residual network after every epoch (gradients.json).

He et al. 2015 (arXiv:1512.03385), section 4.2: the same layers with and without shortcuts. Nothing is chosen on the test
images, so their error is recorded after every epoch, too.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, dataset_of, fit, tidy
from compress.schedule import Schedule, Share
from compress.top1 import right
from data.augment import Augment
from data.loader import Split
from models.cost import cost
from models.resnet import ResNet, Shortcuts, family_spec, initialise

WHOLE = 172  # epochs: the 64,000 steps of the paper


class Ablate(Schedule):
    """The training of the paper's section 4.2; the `drops` are shares of all steps, so fewer `epochs` shorten all of it.

    train_images   of so many training images the error is recorded, without augmentation and after every epoch
    shortcut       how shortcuts change the shape; "none": no block has one
    """

    epochs: int = Field(default=WHOLE, gt=1)
    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = 1e-4
    warmup: float = 0.0
    drops: tuple[Share, ...] = (0.5, 0.75)
    augment: Augment | None = Augment(flip=True, shift=4)
    train_images: int = Field(default=5000, ge=1)
    arch: str = "resnet20"
    shortcut: Shortcuts = "padding"

    @property
    def name(self) -> str:
        return f"{self.arch}, shortcut {self.shortcut}, seed {self.seed}"


def ablated(config: Ablate, out: Path, *, images: Path) -> dict[str, Any]:
    """Train one network from scratch; `history` in the metrics has its errors after every epoch.

    All networks start by He initialisation, residual blocks not as the identity: plain ones cannot. No network is saved.
    Raises ValueError when there is nothing to train on, or the loss is no longer finite.
    """
    dataset = dataset_of(images)
    channels, height, width = dataset["input_shape"]
    torch.manual_seed(config.seed)
    classes = len(dataset["classes"])
    spec = family_spec(config.arch, num_classes=classes, in_channels=channels, shortcut=config.shortcut)
    model = ResNet(spec)
    initialise(model, identity=False)
    train, test = Split(images, "train"), Split(images, "test")

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(network(x), y)

    def errors(network: nn.Module) -> dict[str, float]:
        seen = right(network, train, limit=config.train_images)
        return {"train_error": 100 - 100 * float(seen.mean()), "test_error": 100 - 100 * float(right(network, test).mean())}

    metrics = fit(Task(model, loss, images, config.name, after_epoch=errors), config, out)
    tidy(out)
    return metrics | cost(model, (channels, height, width))
