"""Training steps without waiting for the CPU: the kernels of a network are recorded once and started together.

A small network has hundreds of kernels that a GPU computes faster than Python starts them. A recording (a CUDA graph) starts
all of them at once; `make bench-gpu` measures what it gains.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core import ranks
from models.resnet import ResNet

# A recording computes its gradients on a stream of its own, and torch's thread for gradients starts without a context.
HARMLESS = ("The AccumulateGrad node's stream", "Attempting to run cuBLAS, but there was no current CUDA context")


@contextmanager
def quick_on_gpu(model: nn.Module, device: torch.device, whole_batches: bool = True) -> Iterator[None]:
    """Inside, cuDNN chooses the quickest convolutions on a GPU, and a network of the ResNet family trains from recordings.

    Other networks may do what cannot be recorded. Several processes exchange gradients while they compute; they record nothing.
    Nor do batches in parts, without `whole_batches`: the gradients of the parts would overwrite each other.
    Raises ValueError when the memory of the GPU is too small.
    """
    before = torch.backends.cudnn.benchmark
    recorded = whole_batches and device.type == "cuda" and isinstance(model, ResNet) and ranks.size() == 1
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    if recorded:
        record(model, lambda: model.training and torch.is_grad_enabled())
    try:
        with warnings.catch_warnings():
            for harmless in HARMLESS:
                warnings.filterwarnings("ignore", harmless)
            yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            "the memory of the GPU is too small for a batch; pass --set <stage>.accumulate=2 (a batch in two parts), "
            "or a smaller --set <stage>.batch_size=…"
        ) from error
    finally:
        torch.backends.cudnn.benchmark = before
        if recorded:
            del model.forward  # the class's own again


def record(model: nn.Module, wanted: Callable[[], bool]) -> None:
    """Let the forward pass of `model`, and the backward pass that belongs to it, run from a recording while `wanted()`.

    There is one recording at a time: for the shape of the last input, and the blocks that were skipped. Its outputs and
    gradients are overwritten by the next forward pass.
    """
    plain: Callable[[Tensor], Tensor] = model.forward
    known: dict[object, Callable[[Tensor], Tensor]] = {}

    def forward(x: Tensor) -> Tensor:
        if not wanted():
            return plain(x)
        key = (x.shape, tuple(getattr(module, "skipped", None) for module in model.modules()))
        if key not in known:
            known.clear()
            model.forward = plain
            known[key] = recording(model, x)
            model.forward = forward
        return known[key](x)

    model.forward = forward


def recording(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The forward pass of `model` for inputs like `x` as a CUDA graph. The state of `model` does not change."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    dtype = torch.get_autocast_dtype("cuda")
    with torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
        torch.cuda.make_graphed_callables(model, (x.clone(),), allow_unused_input=True)  # it replaces model.forward
    for buffer, value in zip(model.buffers(), buffers, strict=True):  # the passes before the recording counted
        buffer.copy_(value)
    recorded: Callable[[Tensor], Tensor] = model.forward
    return recorded
