"""The cost of a network: parameters, and multiply-accumulates, which are counted by running it on an image of zeros."""

from typing import TypedDict

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(TypedDict):
    """`params`: learnable numbers. `macs`: multiply-accumulates of convolutions and linear layers for one image."""

    params: int
    macs: int


def cost(model: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Parameters and MACs of `model` for one image of `input_shape` [C, H, W]. The model is not changed."""
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, *input_shape, device=next(model.parameters()).device))
    model.train(training)
    return Cost(params=sum(p.numel() for p in model.parameters()), macs=counter.get_total_flops() // 2)
