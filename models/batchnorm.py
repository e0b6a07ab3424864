"""Batch-norm statistics re-estimated on training images, after the network was changed and before it is evaluated."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def reestimate(model: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace every running mean and variance by the plain average over the batches of `inputs` [N, C, H, W]."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    model.train()
    for x in inputs:
        model(x)
    model.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
