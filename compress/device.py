"""The device that trains and predicts: its precision, networks on it, and batches of images there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from data.feed import feed
from data.loader import Batch, Split
from data.policy import Policy
from models.batchnorm import reestimate


def device_and_precision() -> tuple[torch.device, torch.dtype]:
    """CUDA where there is a GPU; bf16 where the hardware multiplies it, fp16 on older GPUs, else float32."""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.device("cuda"), torch.bfloat16 if native else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


def usable_gpu() -> str | None:
    """The name of the GPU that torch uses; None where it uses none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def unused_gpu() -> list[str]:
    """A note if there is a GPU that is not used."""
    if not torch.backends.mps.is_available():
        return []
    return ["Apple's GPU (MPS) is not used, because respress was never run on one; networks train on the CPU."]


def to_device(model: nn.Module) -> torch.device:
    """Move `model` to the training device, in channels_last; returns the device."""
    device, _ = device_and_precision()
    with torch.inference_mode(False):  # weights that were moved inside an inference_mode could not be trained afterwards
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return device


@contextmanager
def on_device(model: nn.Module) -> Iterator[torch.device]:
    """Inside, `model` and its gradients are on the training device; afterwards where they were."""
    home = next(model.parameters()).device
    try:
        yield to_device(model)
    finally:
        with torch.inference_mode(False):
            model.to(home)


def device_batches(split: Split, batch_size: int, policy: Policy | None = None, **reading: Any) -> Iterator[Batch]:
    """Batches on the training device: `data.feed.feed`."""
    return feed(split, batch_size, device_and_precision()[0], policy, **reading)


def reestimated(model: nn.Module, split: Split, images: int, batch_size: int = 128) -> None:
    """Re-estimate the batch norms of `model` on so many images of `split`, on the training device."""
    with on_device(model):
        reestimate(model, inputs(device_batches(split, batch_size, shuffle=True, limit=images)))


def inputs(batches: Iterable[Batch]) -> Iterator[Tensor]:
    return (x for x, _ in batches)
