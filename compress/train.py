"""images -> the FP32 baseline (model.json, model.safetensors), for users who bring no checkpoint.

He initialisation and zero gamma; label smoothing (Szegedy et al. 2016, arXiv:1512.00567); schedule as in Goyal et al. 2017.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compress.derive import kept_blocks
from compress.fit import Schedule, fit
from models.checkpoint import save
from models.resnet import Block, ResNet, Spec, blocks_of, family_spec, initialise


class Train(Schedule):
    """How the baseline is trained.

    With `grow_from`, a shallower member of the family, only the blocks that it has are trained for the first `grow_at`
    share of the steps; then the others join in. They start as identities (zero gamma), so nothing is lost when they do,
    and steps without them are cheaper (Net2DeeperNet: Chen et al. 2016, arXiv:1511.05641).
    """

    arch: str = "resnet50"
    stem: Literal["imagenet", "small"] = "imagenet"
    label_smoothing: float = 0.1
    grow_from: str | None = None
    grow_at: float = Field(default=0.6, ge=0, le=1)


def train(config: Train, out: Path, *, images: Path) -> dict[str, Any]:
    """Train `config.arch` on the training images from scratch.

    Raises ValueError when the architecture is unknown or the loss is no longer finite.
    """
    dataset = json.loads((images / "dataset.json").read_text())
    spec = family_spec(
        config.arch,
        num_classes=len(dataset["classes"]),
        in_channels=dataset["input_shape"][0],
        stem=config.stem,
    )
    torch.manual_seed(config.seed)
    model = ResNet(spec)
    initialise(model)
    late = late_blocks(model, spec, config.grow_from)

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), y, label_smoothing=config.label_smoothing)

    def grow(share: float) -> None:
        for block in late:
            block.skipped = share < config.grow_at

    metrics = fit(model, loss, config, images, out, f"train {config.arch}", before_step=grow)
    save(model, spec, out)
    return metrics


def late_blocks(model: ResNet, spec: Spec, grow_from: str | None) -> list[Block]:
    """The blocks that `grow_from` does not have."""
    if grow_from is None:
        return []
    kept = kept_blocks(spec, grow_from)
    return [
        block
        for blocks, keep in zip(blocks_of(model), kept, strict=True)
        for i, block in enumerate(blocks)
        if i not in keep
    ]
