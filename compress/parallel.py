"""Training steps on several ranks: each computes a part of every batch, and the gradients are averaged.

Batch norm sees the whole batch, so the result is that of one process: each layer sums over the ranks. torch's SyncBatchNorm
does that on GPUs only.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from core import ranks
from models.resnet import ResNet

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class WithLoss(nn.Module):
    """`loss` of `model` as a module. So DistributedDataParallel takes part also in losses that run only a part of the model."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.model, x, y)


def on_all_ranks(model: nn.Module, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], partly: bool) -> nn.Module:
    """A module that computes `loss`(model, x, y); its backward pass averages the gradients over the ranks.

    `partly`: there are steps that do not use all parameters. A user's own network may have parts that are never used.
    """
    whole = WithLoss(model, loss)
    if ranks.size() == 1:
        return whole
    # Of 1x1 convolutions: their strides are written in two ways, which mean the same.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(whole, find_unused_parameters=partly or not isinstance(model, ResNet))


def averaging(loss: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Inside, a backward pass of `loss` averages the gradients of all parts of a batch if it is the last one: `now`."""
    if now or not isinstance(loss, DistributedDataParallel):
        return nullcontext()
    return cast(AbstractContextManager[None], loss.no_sync())


def check_batch(images: int, accumulate: int, label: str) -> None:
    """ValueError unless every rank gets some of the `images` for each part of a batch of the training `label`."""
    if images < ranks.size() * accumulate:
        raise ValueError(
            f"{label}: {images} images in a batch for {ranks.size()} processes and accumulate = {accumulate}; expected at "
            "least one for each part: start fewer processes, or pass a larger --set <stage>.batch_size=…"
        )


def mean_over_ranks(loss: Tensor) -> float:
    return float(ranks.summed(loss.clone())) / ranks.size()


def share_buffers(model: nn.Module) -> None:
    """Give all ranks the statistics of the main process. They differ where batch norm is not synchronized."""
    if ranks.size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


@contextmanager
def whole_batch_norm(model: nn.Module, device: torch.device, on: bool) -> Iterator[None]:
    """Inside, where `on`, the batch norms of `model` compute their statistics from the batches of all ranks together."""
    norms = [module for module in model.modules() if isinstance(module, NORMS)] if on and ranks.size() > 1 else []
    for norm in norms:
        norm.forward = synchronized(norm, device)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's own again


def synchronized(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The forward pass of `norm` over the batches of all ranks; it changes the statistics of `norm`."""
    kind = nn.SyncBatchNorm if device.type == "cuda" else SyncBatchNormOnCpu
    synced = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(synced, name, tensor)

    def forward(x: Tensor) -> Tensor:
        synced.training = norm.training  # frozen layers stay in evaluation mode
        return cast(Tensor, synced(x))

    return forward


class SyncBatchNormOnCpu(nn.SyncBatchNorm):
    """As nn.SyncBatchNorm. Mean and variance are computed one after the other, which is exact also far from zero."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        others = [dimension for dimension in range(x.ndim) if dimension != 1]
        shape = [-1 if dimension == 1 else 1 for dimension in range(x.ndim)]
        values = x.float()
        count = float(ranks.summed(torch.tensor(values.numel() / values.shape[1])))
        mean = SumOverRanks.apply(values.sum(others)) / count  # type: ignore[no-untyped-call]
        centred = values - mean.view(shape)
        variance = SumOverRanks.apply((centred * centred).sum(others)) / count  # type: ignore[no-untyped-call]
        self.keep(mean.detach(), variance.detach() * count / max(1.0, count - 1))
        scale = (variance + self.eps).rsqrt()
        normal: Tensor = centred * scale.view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    @torch.no_grad()
    def keep(self, mean: Tensor, variance: Tensor) -> None:
        """Add the statistics of a batch to the running ones."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return ranks.summed(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return ranks.summed(gradient.clone())
