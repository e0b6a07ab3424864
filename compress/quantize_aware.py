"""student + teacher -> the student, trained further with 8-bit rounding in its forward pass (model.json, model.safetensors).

Jacob et al. 2018 (arXiv:1712.05877), with distillation; fake quantization by nvidia-modelopt. Only the weights are kept. Ranges
are observed on the exported network as for any other network, so every target still gets its own placement.
"""

import time
import warnings
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from compress.device import device_batches, inputs, to_device
from compress.fit import Task, fit, tidy
from compress.teach import Teaching, predicts_once, teaching_loss
from compress.top1 import top1
from core import ranks
from data.loader import Split
from models.checkpoint import load, save


class QuantizeAware(Teaching):
    """No epochs switch it off. The learning rate should be about 1 % of that of the first training.

    loss     "kl": the rate was found with it
    images   training images that set the ranges of the fake quantizers
    """

    epochs: int = 0
    lr: float = 5e-4
    loss: Literal["mse", "kl", "dist"] = "kl"
    images: int = 512


@ranks.together
def quantize_aware(config: QuantizeAware, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Fine-tune `student` with int8 weights per channel and int8 activations per tensor simulated, ranges frozen.

    Raises ValueError when the loss is no longer finite.
    """
    started = time.perf_counter()
    model, spec = load(student)
    guide, _ = load(teacher)
    val = Split(images, "val")
    before = top1(model, val)
    calibration = list(inputs(device_batches(Split(images, "train"), 64, shuffle=True, limit=config.images)))
    to_device(model)
    simulated = with_fake_quantization(model, calibration)
    untrained = top1(simulated, val)
    loss = teaching_loss(guide, config, out, images)
    task = Task(simulated, loss, images, f"quantization-aware {spec.arch}", by_index=predicts_once(config, images))
    metrics = fit(task, config, out, since=started)
    ranks.main_goes_on()
    plain, _ = load(student)
    trained = simulated.state_dict()
    plain.load_state_dict({name: trained[name] for name in plain.state_dict()})
    metrics |= {
        "val_top1": {
            "before": before,
            "quantized": untrained,
            "quantized_trained": top1(simulated, val),
            "after": top1(plain, val),
        }
    }
    save(plain, spec, out)
    tidy(out)
    return metrics


def with_fake_quantization(model: nn.Module, calibration: list[Tensor]) -> nn.Module:
    """Let the convolutions and linear layers of `model` round their inputs and weights to 8 bits; returns `model`."""

    def show(network: nn.Module) -> None:
        for x in calibration:
            network(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modelopt warns about transformers and about kernels for GPUs
        import modelopt.torch.quantization as mtq

        simulated: nn.Module = mtq.quantize(model, mtq.INT8_DEFAULT_CFG, show)
    return simulated
