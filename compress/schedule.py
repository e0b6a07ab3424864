"""How long and how fast to train: epochs or minutes, SGD, and the course of its learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from core import ranks
from core.config import Config
from data.loader import Augment

Share = Annotated[float, Field(gt=0, lt=1)]


class Schedule(Config):
    """SGD with Nesterov momentum, linear warm-up then cosine to zero. `warmup` is a share of all steps.

    drops          shares of all steps, such as (0.5, 0.75) of He et al. 2016 (arXiv:1512.03385), after each of which the rate
                   falls to a tenth, in place of the cosine
    clip           the largest norm of all gradients together; None: no limit
    accumulate     a step computes its batch in so many parts, one after the other, which needs less memory. Batch norm sees one
                   part at a time
    `epochs` is meant for many images; with few images, epochs are added until there are `min_steps` batches. 0 epochs stay 0.
    minutes        replaces both: as many steps as fit into this time. The time of a step is measured before the first epoch;
                   the number of steps is then fixed, so the learning rate ends at zero and an interruption changes nothing
    most_minutes   a limit: where the epochs would take longer, as many steps as fit into this time
    ema            decay per step of a moving average of the weights, such as 0.999; the average is evaluated and kept
    batch_size     of a step, on all processes together
    sync_batch_norm   several processes compute the statistics of batch norm together, so the result does not depend on their
                   number. False is quicker; each process then has those of its own part of the batch
    """

    epochs: int = Field(ge=0)
    min_steps: int = Field(default=0, ge=0)
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    most_minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=128, gt=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.15
    drops: tuple[Share, ...] = ()
    clip: float | None = Field(default=None, gt=0)
    accumulate: int = Field(default=1, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    seed: int = 0
    augment: Augment | None = Augment()
    sync_batch_norm: bool = True

    @property
    def context(self) -> object:
        return None if self.sync_batch_norm else {"processes": ranks.processes()}


def epochs_of(schedule: Schedule, steps: int) -> int:
    """The number of epochs, each of `steps` batches."""
    return max(schedule.epochs, math.ceil(schedule.min_steps / steps)) if schedule.epochs else 0


def optimizer_for(model: nn.Module, schedule: Schedule, lr_of: Callable[[str], float]) -> torch.optim.SGD:
    """SGD without weight decay for norms and biases; one group of parameters for each pair of learning rate and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr_of(name), decay), []).append(parameter)
    optimizer = torch.optim.SGD(
        [{"params": found, "lr": lr, "peak_lr": lr, "weight_decay": decay} for (lr, decay), found in groups.items()],
        momentum=schedule.momentum,
        nesterov=True,
        fused=True,
    )
    for group in optimizer.param_groups:  # fused SGD needs the buffers of all parameters, also of skipped blocks
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, share: float, step: int, steps: int, drops: Sequence[float] = ()) -> None:
    """Set the learning rates for `step`: each rises to its own peak during `share` of the `steps`, then falls.

    `drops` as in `Schedule`.
    """
    warmup = share * steps
    rising = (step + 1) / max(1.0, warmup)
    falling = 0.5 * (1 + math.cos(math.pi * max(0.0, step - warmup) / max(1.0, steps - warmup)))
    if drops:
        falling = math.prod(0.1 for drop in drops if step >= drop * steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * min(1.0, rising, falling)
