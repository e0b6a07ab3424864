"""student + teacher -> the student, trained on with 8-bit rounding in its forward pass (model.json, model.safetensors).

Jacob et al. 2018 (arXiv:1712.05877), with distillation; fake quantization by nvidia-modelopt. What is kept are the weights that
the rounding taught: ranges are observed on the exported network like any other's, so every target still gets its own placement.
"""

import time
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compress.fit import Task, fit, tidy, top1
from compress.teach import Taught, taught_by
from data.loader import Split, batches
from models.checkpoint import load, save


class QuantizeAware(Taught):
    """Off with no epochs. The learning rate wants to be about 1 % of the first training's.

    images   training images to set the fake quantizers' ranges on
    """

    epochs: int = 0
    lr: float = 5e-4
    images: int = 512


def quantize_aware(config: QuantizeAware, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Fine-tune `student` with int8 weights per channel and int8 activations per tensor simulated, ranges frozen.

    Raises ValueError when the loss is no longer finite.
    """
    started = time.perf_counter()
    model, spec = load(student)
    guide, _ = load(teacher)
    val = Split(images, "val")
    before = top1(model, val)
    calibration = [x for x, _ in batches(Split(images, "train"), 64, shuffle=True, limit=config.images)]
    simulated = with_fake_quantization(model, calibration)
    untrained = top1(simulated, val)
    loss = taught_by(guide, config, out, images)
    task = Task(simulated, loss, images, f"quantization-aware {spec.arch}", by_index=True)
    metrics = fit(task, config, out, since=started)
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
    """`model` itself, whose convolutions and linear layers now round their inputs and weights to 8 bits."""

    def show(network: nn.Module) -> None:
        for x in calibration:
            network(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modelopt warns about transformers and about kernels for GPUs
        import modelopt.torch.quantization as mtq

        simulated: nn.Module = mtq.quantize(model, mtq.INT8_DEFAULT_CFG, show)
    return simulated
