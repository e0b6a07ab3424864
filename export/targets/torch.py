"""PyTorch eager: what users run today, and the reference that every engine is compared with."""

import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core import hardware
from core.placement import Placement
from core.profile import Profile
from export.targets._engine import EngineOptions, described
from models.checkpoint import load as load_model

REQUIRES = ("torch",)
READS = "checkpoint"
MADE_FOR: Literal["cpu", "gpu"] | None = None
prepare = None


class Options(EngineOptions):
    """PyTorch needs no options of its own."""


def placement(profile: Profile) -> Placement | None:
    return None


def untimed(profile: Profile) -> str:
    return "int8"


def unavailable() -> str | None:
    return None


def cannot_run() -> str | None:
    return None


def half(profile: Profile) -> str | None:
    return None


def platform() -> dict[str, Any]:
    return {**hardware.cpu(), "torch": importlib.metadata.version("torch")}


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Copy the checkpoint: there is nothing to build."""
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model / name, out / name)
    return described(out / "model.safetensors", precision="fp32", int8_share=0.0)


def runner() -> str:
    raise AssertionError("the reference does not ship")


def load(engine: Path, threads: int, device: str = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """A function float32 [N, C, H, W] -> float32 logits [N, classes]; on the CPU, like the engines beside it."""
    import torch

    torch.set_num_threads(threads)
    model, _ = load_model(engine)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(x).to(device, memory_format=torch.channels_last)).cpu().numpy())

    return run


def load_on_gpu(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """As `load`, on the GPU: for predictions, whose time does not matter."""
    import torch

    predict = load(engine, threads, "cuda")

    def run(x: np.ndarray) -> np.ndarray:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 has 10 of the 23 bits of float32
            return predict(x)

    return run
