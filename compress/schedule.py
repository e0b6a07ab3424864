"""How long, how fast and on which changed images to train: epochs or minutes, SGD, the course of its learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import nn

from core import ranks
from core.config import Config
from data.augment import Augment
from data.policy import PolicyName

# The keys of what chance changes in images and steps besides `augment`.
VARIED = (
    "policy", "policy_layers", "policy_magnitude", "erasing", "mixup", "cutmix", "mix_probability", "sizes", "stochastic_depth",
)  # fmt: skip
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
    policy         changes of colours and geometry that every image draws in every epoch (data/policy.py), besides `augment`
    policy_layers, policy_magnitude   of RandAugment: how many operations an image gets, and how strong they are, 0 … 30
    erasing        probability that a rectangle of an image is erased
    mixup, cutmix  the parameter alpha of the Beta distribution that says how much of another image is mixed in; 0: never. With
                   both, each batch gets one of them
    mix_probability   the share of the batches that mixup and cutmix change
    sizes          sides in pixels of the training images, each for an equal part of the training, such as (128, 160, 192, 224).
                   Held-out images keep their size
    stochastic_depth   probability that an image skips the last residual block; less for the blocks before it (models/blocks.py)
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
    policy: PolicyName | None = None
    policy_layers: int = Field(default=2, ge=1, le=10)
    policy_magnitude: float = Field(default=9.0, ge=0, le=30)
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    cutmix: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    mix_probability: float = Field(default=1.0, ge=0, le=1)
    sizes: tuple[Annotated[int, Field(ge=8, le=2048)], ...] = ()
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    sync_batch_norm: bool = True

    @model_validator(mode="after")
    def makes_sense(self) -> "Schedule":
        if self.mix_probability < 1 and not (self.mixup or self.cutmix):
            raise ValueError(f"mix_probability = {self.mix_probability:g} mixes nothing; expected mixup or cutmix above 0")
        for key in ("policy_layers", "policy_magnitude"):
            if self.policy != "randaugment" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} belongs to RandAugment; expected policy = 'randaugment', got {self.policy!r}")
        return self

    @property
    def varied(self) -> bool:
        """Whether images differ from epoch to epoch, also without `augment`."""
        return bool(self.policy or self.erasing or self.mixup or self.cutmix or self.sizes)

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
