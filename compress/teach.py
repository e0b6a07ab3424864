"""The loss that trains a student, with or without simulated rounding, to predict like its teacher."""

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from compress.device import device_and_precision, device_batches, to_device
from compress.fit import Loss
from compress.losses import attention_loss, dist, kl, squared, standardized, with_stages
from compress.on_gpu import record
from compress.schedule import Schedule
from core import ranks
from core.console import progress
from data.loader import Split
from models.resnet import ResNet


class Teaching(Schedule):
    """`alpha` is the weight of the teacher's logits, 1 - alpha that of the labels; `alpha = 0` is plain fine-tuning.

    The defaults were chosen on resnet20 with half its MACs (benchmarks/RESULTS.md, "Recovery after pruning").

    lr            for a student that starts from the teacher's weights: at 0.1 it forgets more than a few epochs repair
    loss          how the predictions are compared: "mse" of the logits, which has no temperature; "kl"; or "dist", which
                  compares only their correlation
    standardize   scale logits to mean 0 and standard deviation 1 before they are compared
    feature       weight of attention transfer after each stage, added to the rest; 0 switches it off. Only for the ResNet
                  family. The teacher then runs in every step: its logits can be cached where the crop is fixed, the outputs of
                  its stages are too large for that
    """

    epochs: int = Field(default=2, ge=0)
    lr: float = Field(default=0.02, gt=0)
    loss: Literal["mse", "kl", "dist"] = "mse"
    temperature: float = Field(default=4.0, gt=0)
    alpha: float = Field(default=0.9, ge=0, le=1)
    standardize: bool = False
    feature: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @property
    def plain(self) -> bool:
        """Whether the teacher is not used."""
        return self.alpha == 0 and self.feature == 0


def predicts_once(config: Teaching, images: Path) -> bool:
    """Whether the teacher sees each training image only once, before the training: the images are the same in every epoch."""
    unchanged = Split(images, "train", config.augment).fixed and not config.varied
    return unchanged and not config.feature and not config.plain


def teaching_loss(guide: nn.Module, config: Teaching, out: Path, images: Path) -> Loss:
    """A loss(network, x, y): (1 - alpha) cross-entropy + alpha distillation from `guide` + feature times attention transfer.

    `y` as in `Task`; positions in the training split where the teacher `predicts_once`. Its logits are then in
    `out`/teacher.npy, which survives an interruption. Otherwise it sees the same x as the student, mixed images too.
    Raises ValueError when `feature` is not 0 and `guide` is not of the ResNet family.
    """
    if config.feature and not isinstance(guide, ResNet):
        raise ValueError(
            f"feature = {config.feature:g}: {type(guide).__name__} is not of the ResNet family, its stages are not known; "
            "expected feature = 0"
        )
    if config.plain:
        return lambda network, x, y: functional.cross_entropy(network(x), y)
    split = Split(images, "train", config.augment)
    labels = torch.from_numpy(split.labels).to(device_and_precision()[0])
    once = predicts_once(config, images)
    with ranks.main_process_first():
        known = logits_of(guide, split, out / "teacher.npy").to(labels.device) if once else None
    teacher = inference_copy(guide, fold=not config.feature)
    if labels.is_cuda and isinstance(guide, ResNet) and not config.feature:
        record(teacher, lambda: not torch.is_grad_enabled())
    forward = with_stages if config.feature else logits_only

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, mine = forward(network, x)
        with torch.no_grad():
            target, its = forward(teacher, x) if known is None else (known[y], [])
        value = (1 - config.alpha) * functional.cross_entropy(logits, y if known is None else labels[y])
        value = value + config.alpha * logit_loss(logits, target, config)
        return value + config.feature * attention_loss(mine, its) if config.feature else value

    return loss


def logit_loss(student: Tensor, teacher: Tensor, config: Teaching) -> Tensor:
    """The loss between the logits [N, classes] of the student and of the teacher."""
    if config.standardize:
        student, teacher = standardized(student), standardized(teacher)
    if config.loss == "mse":
        return squared(student, teacher)
    return (kl if config.loss == "kl" else dist)(student, teacher, config.temperature)


def logits_only(network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    return network(x), []


def inference_copy(guide: nn.Module, fold: bool = True) -> nn.Module:
    """`guide` on the training device, for predictions only. `fold` folds its batch norm; it then has no stages."""
    network = (fuse(guide.eval()) if fold else copy.deepcopy(guide).eval()).requires_grad_(False)
    to_device(network)
    return network


def logits_of(guide: nn.Module, split: Split, file: Path, batch_size: int = 256) -> Tensor:
    """The logits [N, classes] of `guide` for every image of `split`, from `file` when it is there."""
    if not file.exists():
        device, dtype = device_and_precision()
        teacher = inference_copy(guide)
        found = []
        with progress() as bar, torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            task = bar.add_task("logits of the teacher", total=len(split))
            for x, _ in device_batches(split, batch_size):
                found.append(teacher(x).float().cpu().numpy())
                bar.advance(task, len(x))
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.save(stream, np.concatenate(found))
        temporary.replace(file)
    return torch.from_numpy(np.load(file))
