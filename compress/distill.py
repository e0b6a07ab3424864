"""student + teacher -> the student, trained to answer like the teacher (model.json, model.safetensors).

Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from compress.fit import Loss, Schedule, device_and_precision, fit, tidy, top1
from data.loader import Split, batches
from models.checkpoint import load, save
from pipeline.console import progress


class Distill(Schedule):
    """`alpha` is the weight of the teacher's answers, 1 - alpha that of the labels; `alpha = 0` is plain fine-tuning."""

    epochs: int = Field(default=2, ge=0)
    temperature: float = Field(default=2.0, gt=0)
    alpha: float = Field(default=0.5, ge=0, le=1)


def distill(config: Distill, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Train the student on the training images; both networks see the same crop.

    Raises ValueError when the loss is no longer finite.
    """
    model, spec = load(student)
    guide, guide_spec = load(teacher)
    loss = taught_by(guide, config, out, images)
    metrics = fit(model, loss, config, images, out, f"distill {guide_spec.arch} -> {spec.arch}", by_index=True)
    val = Split(images, "val")
    metrics |= {"val_top1": top1(model, val), "teacher_val_top1": top1(guide, val)}
    save(model, spec, out)
    tidy(out)
    return metrics


def taught_by(guide: nn.Module, config: Distill, out: Path, images: Path) -> Loss:
    """A loss(network, x, where): (1 - alpha) cross-entropy + alpha distillation from `guide`; `where` in the training split.

    Where the crop is fixed the teacher is asked once, not every epoch; `out`/teacher.npy survives an interruption.
    """
    split = Split(images, "train", config.augment)
    labels = torch.from_numpy(split.labels)
    known = answers(guide, split, out / "teacher.npy") if config.alpha and split.fixed else None
    folded = at_work(guide)

    def loss(network: nn.Module, x: Tensor, where: Tensor) -> Tensor:
        logits = network(x)
        where = where.cpu()
        label_loss = functional.cross_entropy(logits, labels[where].to(x.device))
        if config.alpha == 0:
            return label_loss
        with torch.no_grad():
            target = folded(x) if known is None else known[where].to(x.device)
        return (1 - config.alpha) * label_loss + config.alpha * distillation_loss(logits, target, config.temperature)

    return loss


def at_work(guide: nn.Module) -> nn.Module:
    """`guide` where training happens, its batch norm folded: it only ever answers."""
    device, _ = device_and_precision()
    folded = fuse(guide.eval()).requires_grad_(False)
    folded.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format
    return folded


def answers(guide: nn.Module, split: Split, file: Path, batch_size: int = 256) -> Tensor:
    """The logits [N, classes] of `guide` for every image of `split`, from `file` when they are there."""
    if not file.exists():
        device, dtype = device_and_precision()
        folded = at_work(guide)
        found = []
        with progress() as bar, torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            task = bar.add_task("ask the teacher", total=len(split))
            for x, _ in batches(split, batch_size):
                found.append(folded(x.to(device, memory_format=torch.channels_last)).float().cpu().numpy())
                bar.advance(task, len(x))
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.save(stream, np.concatenate(found))
        temporary.replace(file)
    return torch.from_numpy(np.load(file))


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of logits [N, classes], summed over classes and averaged over the batch.

    `batchmean` matters: averaging over classes as well would silently divide alpha by their number.
    """
    log_p = functional.log_softmax(student.float() / temperature, dim=1)
    log_q = functional.log_softmax(teacher.float() / temperature, dim=1)
    return functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2
