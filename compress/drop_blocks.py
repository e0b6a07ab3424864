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
from compress.device import device_batches, reestimated
from compress.prune_sensitivity import BATCH, Batches, log_probabilities, lost
from compress.ratio import POINT
from compress.top1 import top1
from core.config import Config
from data.loader import Split
from models.blocks import Residual
from models.checkpoint import load, save
from models.cost import cost
from models.resnet import ResNet, Spec, blocks_of

ROUNDS = 4  # the blocks that are left are ranked anew after each: without one block, others matter more


class DropBlocks(Config):
    """`removed` is the share of the MACs to remove, to within half a block.

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
    skip(network, list(device_batches(split, BATCH, shuffle=True, limit=config.images)), config.removed, shape)
    shallow, spec, kept = without_skipped(network, spec)
    reestimated(shallow, split, config.norm_images)
    save(shallow, spec, out)
    return {
        "kept_blocks": kept,
        "before": before,
        "after": cost(shallow, shape),
        "val_top1": {"norm_reestimated": top1(shallow, Split(images, "val"))},
    }


def without_skipped(network: ResNet, spec: Spec) -> tuple[ResNet, Spec, list[list[int]]]:
    """A copy of `network` without the blocks that are skipped, its spec, and the blocks that each stage keeps."""
    kept = [[i for i, block in enumerate(stage) if not block.skipped] for stage in blocks_of(network)]
    return *with_blocks(network, spec, kept), kept


def skip(network: ResNet, images: Batches, removed: float, shape: tuple[int, int, int]) -> None:
    """Set `skipped` on the blocks that change the predictions for `images` least, until about `removed` of the MACs is gone.

    One block goes at least. Blocks with more MACs may change the predictions more: the change for each MAC makes the order.
    """
    whole, predicted = cost(network, shape)["macs"], log_probabilities(network, images)
    macs = whole
    for part in range(1, ROUNDS + 1):
        aim = whole * (1 - removed * part / ROUNDS)
        for own, block in ranked(network, images, predicted, macs, shape):
            if macs < whole and macs - aim < own / 2:
                break  # without this block, the network would be further from the aim
            block.skipped = True
            macs -= own


def ranked(
    network: ResNet, images: Batches, predicted: Tensor, macs: int, shape: tuple[int, int, int]
) -> list[tuple[int, Residual]]:
    """The blocks that can still go, with their MACs: first those without which the predictions change least for each MAC."""
    labels = predicted.argmax(1)
    found = []
    for block in droppable(network):
        block.skipped = True
        change = lost(log_probabilities(network, images), predicted, labels)["kl"]
        own = macs - cost(network, shape)["macs"]
        found.append((change / own, own, block))
        block.skipped = False
    return [(own, block) for _, own, block in sorted(found, key=lambda each: each[0])]


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
