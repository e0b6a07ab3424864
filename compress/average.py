"""An exponential moving average of a network's weights (as of the mean teacher, Tarvainen & Valpola 2017, arXiv:1703.01780)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """`values` is the averaged state_dict of a network; `decay` the share of it that every step keeps.

    The statistics of batch norm are averaged like the weights. They are moving averages themselves, and averaging reads no
    images. Re-estimating them on 2,048 training images instead gained 4 images of 10,000 (85.34 -> 85.38 %; a pruned resnet50
    after 186 steps of distillation, decay 0.999, one seed).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = copied(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after `step` (0-based).

        In the first steps the decay is lower, otherwise the average of a short training would stay close to its start.
        """
        keep = min(self.decay, (1 + step) / (10 + step))
        state = model.state_dict()
        floats = [name for name, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.values[name] for name in floats], [state[name] for name in floats], 1 - keep)
        for name in state.keys() - floats:
            self.values[name].copy_(state[name])

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` has the averaged weights."""
        own = copied(model)
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
