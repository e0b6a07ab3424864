"""model + images -> what the network loses when only one part of it is pruned (sensitivity.json).

The analysis of Li et al. 2017 (arXiv:1608.08710, section 3.2), over dependency groups, with batch norm re-estimated. A part is
the inner widths of all blocks of a stage, or its residual stream; in a user's own network every channel group is one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compress.cut import cut
from compress.device import device_batches, inputs, on_device
from compress.groups import ChannelGroup
from compress.importance import Importance, accumulate_gradients
from compress.plan import Cut
from compress.prunable import CannotPrune, prunable, residual_convolutions
from core.config import Config
from data.loader import Split
from models.batchnorm import reestimate
from models.checkpoint import load
from models.cost import cost
from models.resnet import ResNet

BATCH = 64
Batches = list[tuple[Tensor, Tensor]]


class Sensitivity(Config):
    """`images`: the number of held-out images for every part and ratio, for example 512; 0 leaves the analysis out.

    It takes minutes: for each part and each of the `ratios`, one pruning and one pass over `images` and over `norm_images`.

    ratios            pruning ratios that are tried with every part
    importance        how channels are ranked; `gradient_images` are read for criteria that need gradients
    norm_images       training images to re-estimate batch norm on, every time
    """

    images: int = Field(default=0, ge=0)
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)
    importance: Importance = "l2"
    gradient_images: int = Field(default=512, ge=1)
    norm_images: int = Field(default=256, ge=2)
    round_to: int | None = Field(default=None, ge=1)


def sensitivity(config: Sensitivity, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Per part and ratio: KL(unpruned || pruned) of the predictions in nats, top-1 in percent, and the share of MACs it saves.

    Reads training images where none are held out. The images are kept in memory. A network that cannot be pruned has no parts,
    but a note.
    """
    network, spec = load(model)
    train, val = Split(images, "train"), Split(images, "val")
    split = val if len(val) else train
    channels, height, width = split.dataset["input_shape"]
    shape = (channels, height, width)
    settings = Cut(pruning_ratio=0.0, importance=config.importance, round_to=config.round_to)
    judging = list(device_batches(split, BATCH, shuffle=True, limit=config.images))
    norms = list(device_batches(train, BATCH, shuffle=True, limit=config.norm_images))
    read = device_batches(train, BATCH, shuffle=True, limit=config.gradient_images)
    accumulate_gradients(config.importance, network, read)
    labels = torch.cat([y for _, y in judging]).cpu()
    whole = log_probabilities(network, judging)
    macs = cost(network, shape)["macs"]
    found: list[dict[str, Any]] = []
    notes = []
    try:
        for name, groups in parts(network, prunable(network, spec, settings, shape)).items():
            tried = [cut(network, spec, settings, shape, {g.name: ratio for g in groups}) for ratio in config.ratios]
            points = []
            for pruned in tried:
                saved = 1 - cost(pruned, shape)["macs"] / macs
                with on_device(pruned):
                    reestimate(pruned, inputs(norms))
                points.append({"macs_saved": saved, **lost(log_probabilities(pruned, judging), whole, labels)})
            found.append({"name": name, "channels": sum(g.width for g in groups), "points": points})
    except CannotPrune as reason:
        notes = [f"The sensitivity to pruning was left out: {reason}."]
    metrics = {
        "n": len(labels),
        "split": split.split,
        "importance": config.importance,
        "ratios": list(config.ratios),
        "unpruned_top1": percent_right(whole, labels),
        "parts": found,
        "notes": notes,
    }
    (out / "sensitivity.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def parts(network: nn.Module, groups: list[ChannelGroup]) -> dict[str, list[ChannelGroup]]:
    """{name of a part: its `groups`, which are pruned together}."""
    if not isinstance(network, ResNet):
        return {group.name: [group] for group in groups}
    stream = set(residual_convolutions(network))
    found: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        *_, last = group.layers
        stage, *inner = last.split(".")
        shared = any(network.get_submodule(layer) in stream for layer in group.layers)
        name = "stem" if not inner else f"{stage} residual stream" if shared else f"{stage} inside the blocks"
        found.setdefault(name, []).append(group)
    return found


def lost(pruned: Tensor, whole: Tensor, labels: Tensor) -> dict[str, float]:
    """The loss from log-probabilities [N, classes] of the `whole` network to those of the `pruned` one."""
    kl = functional.kl_div(pruned, whole, reduction="batchmean", log_target=True)
    return {"kl": max(0.0, float(kl)), "top1": percent_right(pruned, labels)}


def percent_right(predicted: Tensor, labels: Tensor) -> float:
    return 100 * float((predicted.argmax(1) == labels).float().mean())


@torch.inference_mode()
def log_probabilities(network: nn.Module, images: Batches) -> Tensor:
    """float32 [N, classes], on the CPU."""
    network.eval()
    with on_device(network) as device:
        return torch.cat([network(x.to(device)).log_softmax(1) for x, _ in images]).cpu()
