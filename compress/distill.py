"""student + teacher -> the student, trained to answer like the teacher (model.json, model.safetensors).

Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531).
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from compress.fit import Loss, Schedule, device_and_precision, fit, top1
from data.loader import Split
from models.checkpoint import load, save


class Distill(Schedule):
    """`alpha` is the weight of the teacher's answers, 1 - alpha that of the labels; `alpha = 0` is plain fine-tuning."""

    temperature: float = Field(default=2.0, gt=0)
    alpha: float = Field(default=0.5, ge=0, le=1)


def distill(config: Distill, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Train the student on the training images; both networks see the same crop.

    Raises ValueError when the loss is no longer finite.
    """
    model, spec = load(student)
    guide, guide_spec = load(teacher)
    metrics = fit(model, taught_by(guide, config), config, images, out, f"distill {guide_spec.arch} -> {spec.arch}")
    val = Split(images, "val")
    metrics |= {"val_top1": top1(model, val), "teacher_val_top1": top1(guide, val)}
    save(model, spec, out)
    return metrics


def taught_by(guide: nn.Module, config: Distill) -> Loss:
    """(1 - alpha) cross-entropy + alpha distillation from `guide`, whose batch norm is folded: it only ever answers."""
    device, _ = device_and_precision()
    folded = fuse(guide.eval()).requires_grad_(False)
    folded.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = network(x)
        label_loss = functional.cross_entropy(logits, y)
        if config.alpha == 0:
            return label_loss
        with torch.no_grad():
            target = folded(x)
        return (1 - config.alpha) * label_loss + config.alpha * distillation_loss(logits, target, config.temperature)

    return loss


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of logits [N, classes], summed over classes and averaged over the batch.

    `batchmean` matters: averaging over classes as well would silently divide alpha by their number.
    """
    log_p = functional.log_softmax(student.float() / temperature, dim=1)
    log_q = functional.log_softmax(teacher.float() / temperature, dim=1)
    return functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2
