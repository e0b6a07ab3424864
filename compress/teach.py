"""How a teacher teaches: the loss that a student, plain or with simulated rounding, is trained on beside it."""

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from compress.fit import Loss, device_and_precision
from compress.losses import attention_loss, dist, kl, standardized, with_stages
from compress.schedule import Schedule
from core.console import progress
from data.loader import Split, batches
from models.resnet import ResNet


class Taught(Schedule):
    """`alpha` is the weight of the teacher's answers, 1 - alpha that of the labels; `alpha = 0` is plain fine-tuning.

    loss          how the answers are compared: "kl", or "dist", which wants only their correlation
    standardize   logits to mean 0 and standard deviation 1 before they are compared
    feature       weight of attention transfer: look where the teacher looks, after each stage. Added to the rest; 0 is off.
                  Only for the ResNet family. The teacher then runs along in every step: its answers may be cached where the
                  crop is fixed, what its stages put out is too much for that
    """

    epochs: int = Field(default=2, ge=0)
    loss: Literal["kl", "dist"] = "kl"
    temperature: float = Field(default=2.0, gt=0)
    alpha: float = Field(default=0.5, ge=0, le=1)
    standardize: bool = False
    feature: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @property
    def plain(self) -> bool:
        """Whether the teacher has no say."""
        return self.alpha == 0 and self.feature == 0


def taught_by(guide: nn.Module, config: Taught, out: Path, images: Path) -> Loss:
    """A loss(network, x, where): (1 - alpha) cross-entropy + alpha distillation from `guide` + feature times attention
    transfer; `where` in the training split.

    Where the crop is fixed the teacher is asked once, not every epoch, unless its features are wanted too; `out`/teacher.npy
    survives an interruption. Raises ValueError when they are wanted of a `guide` that is not of the ResNet family.
    """
    if config.feature and not isinstance(guide, ResNet):
        raise ValueError(
            f"feature = {config.feature:g}: {type(guide).__name__} is not of the ResNet family, its stages are not known; "
            "expected feature = 0"
        )
    split = Split(images, "train", config.augment)
    labels = torch.from_numpy(split.labels)
    if config.plain:
        return lambda network, x, where: functional.cross_entropy(network(x), labels[where.cpu()].to(x.device))
    known = answers(guide, split, out / "teacher.npy") if split.fixed and not config.feature else None
    ask = at_work(guide, fold=not config.feature)
    look = with_stages if config.feature else without_stages

    def loss(network: nn.Module, x: Tensor, where: Tensor) -> Tensor:
        where = where.cpu()
        logits, mine = look(network, x)
        with torch.no_grad():
            target, its = look(ask, x) if known is None else (known[where].to(x.device), [])
        value = (1 - config.alpha) * functional.cross_entropy(logits, labels[where].to(x.device))
        value = value + config.alpha * apart(logits, target, config)
        return value + config.feature * attention_loss(mine, its) if config.feature else value

    return loss


def apart(student: Tensor, teacher: Tensor, config: Taught) -> Tensor:
    """How far the logits [N, classes] of the student are from the teacher's."""
    if config.standardize:
        student, teacher = standardized(student), standardized(teacher)
    return (kl if config.loss == "kl" else dist)(student, teacher, config.temperature)


def without_stages(network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    return network(x), []


def at_work(guide: nn.Module, fold: bool = True) -> nn.Module:
    """`guide` where training happens: it only ever answers. With `fold` its batch norm is folded, and its stages are gone."""
    device, _ = device_and_precision()
    network = (fuse(guide.eval()) if fold else copy.deepcopy(guide).eval()).requires_grad_(False)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format
    return network


def answers(guide: nn.Module, split: Split, file: Path, batch_size: int = 256) -> Tensor:
    """The logits [N, classes] of `guide` for every image of `split`, from `file` when they are there."""
    if not file.exists():
        device, dtype = device_and_precision()
        ask = at_work(guide)
        found = []
        with progress() as bar, torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            task = bar.add_task("ask the teacher", total=len(split))
            for x, _ in batches(split, batch_size):
                found.append(ask(x.to(device, memory_format=torch.channels_last)).float().cpu().numpy())
                bar.advance(task, len(x))
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.save(stream, np.concatenate(found))
        temporary.replace(file)
    return torch.from_numpy(np.load(file))
