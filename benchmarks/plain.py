"""model -> what users make of it without us: pruned by torch-pruning's own pruner (model.json, model.safetensors).

DepGraph, Fang et al. 2023 (arXiv:2301.12900): every layer by the same ratio, the classifier left alone. A stage, so that the
network goes through the same training, export and measurement as ours.
"""

import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch_pruning as tp
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.cut import copied
from compress.distill import Distill
from compress.fit import dataset_of
from compress.prunable import residual_convolutions
from core.cache import Artifact, Stages
from core.config import Config
from data.loader import Split, batches
from models.checkpoint import AnySpec, classifier, load, respecified, save
from models.cost import cost
from models.resnet import ResNet

PLAIN = "torch-pruning"
Shape = tuple[int, int, int]
Criterion = Literal["l2", "taylor"]
CRITERIA = {"l2": lambda: tp.importance.GroupMagnitudeImportance(p=2), "taylor": tp.importance.GroupTaylorImportance}


class Plain(Config):
    """How torch-pruning prunes.

    macs              what the pruned network should cost
    importance        how channels are ranked, by torch-pruning's own group criteria
    gradient_images   labelled images for the gradients of "taylor"
    residual          whether the channels of the residual stream are pruned too, or only those inside the blocks
    round_to          channel counts are multiples of this. It is halved as long as the `macs` cannot be had within `tolerance`
                      of them: torch-pruning leaves a layer whole when rounding would take all of it
    """

    macs: int = Field(gt=0)
    importance: Criterion = "l2"
    gradient_images: int = Field(default=512, ge=1)
    residual: bool = True
    round_to: int = Field(default=16, ge=1)
    tolerance: float = Field(default=0.05, ge=0)

    @property
    def name(self) -> str:
        return f"{PLAIN} ({self.importance}{'' if self.residual else ', blocks only'})"


def torch_pruned(config: Plain, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Prune `model` by the ratio that brings its MACs nearest to `config.macs`.

    `seconds` in the metrics are those of ranking and pruning once: a user of the tool gives it a ratio and does not search.
    """
    network, spec = load(model)
    channels, height, width = dataset_of(images)["input_shape"]
    shape = (channels, height, width)
    started = time.perf_counter()
    if config.importance == "taylor":
        accumulate(network, batches(Split(images, "train"), 64, shuffle=True, limit=config.gradient_images))
    ranking = time.perf_counter() - started
    ratio, round_to = nearest(network, spec, config, shape)
    started = time.perf_counter()
    pruned = narrowed(network, spec, config, ratio, round_to, shape)
    seconds = round(ranking + time.perf_counter() - started, 3)
    save(pruned, respecified(pruned, spec), out)
    before, after = cost(network, shape), cost(pruned, shape)
    return {"pruning_ratio": ratio, "round_to": round_to, "seconds": seconds, "before": before, "after": after}


def accumulate(network: nn.Module, images: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Write the gradients of the cross-entropy, summed over the batches, to `.grad`, which torch-pruning's Taylor reads."""
    network.eval()
    for x, y in images:
        cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]


def narrowed(network: nn.Module, spec: AnySpec, config: Plain, ratio: float, round_to: int, shape: Shape) -> nn.Module:
    """A copy of `network` as torch-pruning's MetaPruner leaves it."""
    pruned = copied(network)
    ignored = [classifier(pruned, spec)]
    if not config.residual and isinstance(pruned, ResNet):
        ignored += residual_convolutions(pruned)
    tp.pruner.MetaPruner(
        pruned, torch.zeros(1, *shape), importance=CRITERIA[config.importance](), global_pruning=False, pruning_ratio=ratio,
        ignored_layers=ignored, round_to=round_to,
    ).step()  # fmt: skip
    return pruned


def nearest(network: nn.Module, spec: AnySpec, config: Plain, shape: Shape) -> tuple[float, int]:
    """The pruning ratio whose MACs are nearest to `config.macs`, and what channels are rounded to; found by bisection.

    Among ratios that leave some of the narrowest layer: there MACs fall with the ratio. They change where the widest layer
    loses another `round_to` channels, so these steps are all there is to try.
    """
    widths = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    round_to = config.round_to

    def ratio_of(step: int) -> float:
        return step * round_to / max(widths)

    @cache
    def macs(step: int, multiple: int) -> int:
        return cost(narrowed(network, spec, config, ratio_of(step), multiple, shape), shape)["macs"] if step else whole

    whole = cost(network, shape)["macs"]
    while True:
        high = max(widths) // round_to - -(-max(widths) // min(widths))
        if round_to == 1 or (high >= 0 and macs(high, round_to) <= config.macs * (1 + config.tolerance)):
            break
        round_to //= 2
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs(middle, round_to) > config.macs else (low, middle)
    return ratio_of(min((low, high), key=lambda step: abs(macs(step, round_to) - config.macs))), round_to


def on_labels(config: Distill, epochs: int) -> Distill:
    """The same training without a teacher: cross-entropy alone, for so many epochs."""
    changes = {"alpha": 0.0, "feature": 0.0, "control": False, "epochs": epochs, "min_steps": 0, "minutes": None}
    return config.model_copy(update=changes)


def made_by(step: Stages, stage: str) -> Artifact:
    """The artifact of the stage of that name, of those that `step` used.

    Raises ValueError when there is none: nothing could be trained.
    """
    for artifact in step.used:
        if stage_of(artifact) == stage:
            return artifact
    raise ValueError(f"the pipeline had no stage {stage!r}; expected labelled training images and finetune = true")


def stage_of(artifact: Artifact) -> str:
    return str(artifact.manifest["stage"]).split(".")[-1]


def mac_remark(ours: Artifact, plain: Artifact, name: str = PLAIN) -> str:
    """The settings and MACs of `plain`, compared with those of `ours`, the artifact of our `prune`."""
    by, mine, its = plain.metrics, ours.metrics["after"]["macs"], plain.metrics["after"]["macs"]
    same = " Both kept the same channels: what we re-estimated of batch norm is all that differs." if alike(ours, plain) else ""
    return (
        f"{name}: pruning_ratio {by['pruning_ratio']:.4g}, channels in multiples of {by['round_to']}: {its:,} MACs, "
        f"{100 * (its - mine) / mine:+.1f} % to our {mine:,}.{same}"
    )


def alike(one: Artifact, other: Artifact) -> bool:
    """Whether two networks have the same weights, without the statistics of batch norm."""
    a, b = (load_file(artifact.path / "model.safetensors") for artifact in (one, other))
    seen = ("running_mean", "running_var", "num_batches_tracked")
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a if not name.endswith(seen))
