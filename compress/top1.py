"""How many images a network predicts correctly while it is trained; for choices, never for the gate."""

import numpy as np
import torch
from torch import nn

from compress.device import device_and_precision, device_batches, on_device
from compress.parallel import share_buffers
from core import ranks
from data.loader import Split


def top1(model: nn.Module, split: Split, batch_size: int = 250) -> float | None:
    """Top-1 of `model` on `split` in percent, in the training precision.

    None when `split` has no images.
    """
    return 100 * float(right(model, split, batch_size).mean()) if len(split) else None


@torch.inference_mode()
def right(model: nn.Module, split: Split, batch_size: int = 250, limit: int | None = None) -> np.ndarray:
    """Which images of `split`, or of `limit` fixed ones, `model` predicts correctly, in the training precision: bool [N]."""
    _, dtype = device_and_precision()
    model.eval()
    found = [torch.zeros(0, dtype=torch.bool)]
    with on_device(model) as device:
        share_buffers(model)
        for x, y in device_batches(split, batch_size, shuffle=limit is not None, limit=limit, divided="images"):
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                found.append(model(x).argmax(1) == y)
    return np.concatenate(ranks.gather(torch.cat([part.cpu() for part in found]).numpy()))
