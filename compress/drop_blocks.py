"""model -> model with fewer residual blocks (model.json, model.safetensors).

A block costs a call of every one of its convolutions, however few channels they have. Where these calls take the time, only
fewer blocks make an engine quicker. The blocks that go are those without which the predictions change least (Veit et al. 2016,
arXiv:1605.06431: a residual network still predicts well without any one of its blocks).
"""

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from compress.budget import OutOfReach
from compress.derive import with_blocks
from compress.fit import top1
from compress.prune_sensitivity import BATCH, Batches, log_probabilities, lost
from compress.ratio import POINT
from core.config import Config
from data.loader import Split, batches
from models.batchnorm import reestimate
from models.blocks import Residual
from models.checkpoint import load, save
from models.cost import cost
from models.resnet import ResNet, Spec, blocks_of

ROUNDS = 4  # the blocks that are left are ranked anew after each: without one block, others matter more


class DropBlocks(Config):
    """`removed` is the share of the MACs to remove, to within a point or more: blocks go whole.

    images        training images on which the blocks are ranked
    norm_images   images to re-estimate batch norm on
    """

    removed: float = Field(gt=0, lt=1)
    images: int = Field(default=128, ge=1)
    norm_images: int = Field(default=2048, ge=2)


def drop_blocks(config: DropBlocks, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Drop blocks until the share `config.removed` of the MACs is gone, and re-estimate batch norm.

    Raises OutOfReach for a network that is not of the ResNet family, and when the blocks that can go have fewer MACs. Blocks
    that change the shape of their input stay.
    """
    network, spec = load(model)
    if not (isinstance(network, ResNet) and isinstance(spec, Spec)):
        raise OutOfReach(f"{spec.arch} is not of the ResNet family, and only its blocks can be dropped")
    split = Split(images, "train")
    channels, height, width = split.dataset["input_shape"]
    shape = (channels, height, width)
    before = cost(network, shape)
    if without_all(network, shape) > (1 - config.removed + POINT) * before["macs"]:
        raise OutOfReach(f"the blocks of {spec.arch} that can be dropped have less than {config.removed:.1%} of its MACs")
    skip(network, list(batches(split, BATCH, shuffle=True, limit=config.images)), config.removed, shape)
    kept = [[i for i, block in enumerate(stage) if not block.skipped] for stage in blocks_of(network)]
    shallow, spec = with_blocks(network, spec, kept)
    reestimate(shallow, (x for x, _ in batches(split, 128, shuffle=True, limit=config.norm_images)))
    save(shallow, spec, out)
    return {
        "kept_blocks": kept,
        "before": before,
        "after": cost(shallow, shape),
        "val_top1": {"norm_reestimated": top1(shallow, Split(images, "val"))},
    }


def skip(network: ResNet, images: Batches, removed: float, shape: tuple[int, int, int]) -> None:
    """Set `skipped` on the blocks that change the predictions for `images` least, until `removed` of the MACs is gone.

    Blocks with more MACs may change the predictions more: the order is that of the change for each MAC.
    """
    whole, predicted = cost(network, shape)["macs"], log_probabilities(network, images)
    for part in range(1, ROUNDS + 1):
        aim = whole * (1 - (removed - POINT) * part / ROUNDS)
        if (macs := cost(network, shape)["macs"]) <= aim:
            continue
        for _, block in sorted(ranked(network, images, predicted, macs, shape), key=lambda found: found[0]):
            block.skipped = True
            if cost(network, shape)["macs"] <= aim:
                break


def ranked(
    network: ResNet, images: Batches, predicted: Tensor, macs: int, shape: tuple[int, int, int]
) -> list[tuple[float, Residual]]:
    """For every block that can still go: the change of the predictions without it for each MAC that it has."""
    labels = predicted.argmax(1)
    found = []
    for block in droppable(network):
        block.skipped = True
        change = lost(log_probabilities(network, images), predicted, labels)["kl"]
        found.append((change / (macs - cost(network, shape)["macs"]), block))
        block.skipped = False
    return found


def without_all(network: ResNet, shape: tuple[int, int, int]) -> int:
    """The MACs without all blocks that can go."""
    blocks = droppable(network)
    for block in blocks:
        block.skipped = True
    macs = cost(network, shape)["macs"]
    for block in blocks:
        block.skipped = False
    return macs


def droppable(network: ResNet) -> list[Residual]:
    """The blocks that pass on the shape of their input and are not skipped; one block of every stage stays."""
    found: list[Residual] = []
    for stage in blocks_of(network):
        left = [block for block in stage if not block.skipped]
        reshaping: list[nn.Module] = [block for block in left if block.downsample is not None]
        found += [block for block in (left if reshaping else left[1:]) if block not in reshaping]
    return found
