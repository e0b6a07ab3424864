"""images -> the FP32 baseline (model.json, model.safetensors), where there is no checkpoint.

He initialisation and zero gamma; label smoothing (Szegedy et al. 2016, arXiv:1512.00567); schedule as in Goyal et al. 2017.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compress.fit import Task, dataset_of, fit, tidy
from compress.schedule import Schedule
from core import ranks
from models.checkpoint import save, untrained
from models.resnet import ResNet, Shortcut, Spec, Stem, blocks_of, initialise
from models.sidecar import write_beside
from models.stem import stem_notes


class Train(Schedule):
    """How the baseline is trained. `stem` and `shortcut` are those of a ResNet; None for the ones that `arch` has in its paper.

    During the first `grow_at` share of the steps only the first block of every stage is trained; then the others are added.
    They start as identities (zero gamma), so the network computes the same when they are added, and steps without them are
    several times faster (Net2DeeperNet: Chen et al. 2016, arXiv:1511.05641).
    """

    epochs: int = Field(default=3, ge=0)
    arch: str = "resnet50"
    source: str | None = None
    stem: Stem | None = None
    shortcut: Shortcut | None = None
    label_smoothing: float = 0.1
    grow_at: float = Field(default=0.0, ge=0, le=1)


@ranks.together
def train(config: Train, out: Path, *, images: Path) -> dict[str, Any]:
    """Train `config.arch` on the training images from scratch.

    Raises ValueError when the architecture is unknown or has no such shortcuts, there is nothing to train on, or the loss is no
    longer finite.
    """
    dataset = dataset_of(images)
    torch.manual_seed(config.seed)
    model, spec = untrained(config.arch, len(dataset["classes"]), dataset["input_shape"][0], config.stem, config.shortcut)
    late = []
    if isinstance(model, ResNet):  # a user's own network keeps the initialisation of its factory
        initialise(model)
        late = [block for blocks in blocks_of(model) for block in blocks[1:]]

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), y, label_smoothing=config.label_smoothing)

    def grow(share: float) -> None:
        for block in late:
            block.skipped = share < config.grow_at

    task = Task(model, loss, images, f"train {config.arch}", before_step=grow, partly=config.grow_at > 0)
    metrics = fit(task, config, out)
    ranks.main_goes_on()
    if isinstance(spec, Spec):
        metrics["notes"] += stem_notes(spec, dataset["input_shape"])
    save(model, spec, out)
    write_beside(out, dataset)
    tidy(out)
    return metrics
