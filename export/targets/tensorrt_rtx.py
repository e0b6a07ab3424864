"""NVIDIA TensorRT-RTX: model.onnx -> one model.engine for several GPU architectures, built with no GPU in the machine.

The file holds a portable program that the runtime compiles for the GPU of the device; it is tied to the version of
TensorRT-RTX (docs.nvidia.com/deeplearning/tensorrt-rtx: "CPU-Only AOT", "Engine Compatibility").
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from core import hardware
from core.placement import Placement
from core.profile import Profile
from export.bundle import device_runner
from export.device.runner_trt import faults
from export.device.trt_build import started
from export.targets import _trt

REQUIRES: tuple[str, ...] = ("tensorrt-rtx",)
READS = "onnx"
MADE_FOR: Literal["cpu", "gpu"] | None = None
prepare = None  # it builds for GPUs that are not in this machine


class Options(_trt.Options):
    """SM80 is A100, SM86 RTX 30xx, SM89 RTX 40xx, SM120 RTX 50xx, SM121 GB10. SM75 has no FP32 gemm, only FP16."""

    compute_capabilities: tuple[str, ...] = Field(default=("SM80", "SM86", "SM89", "SM120"), min_length=1)


def placement(profile: Profile) -> Placement | None:
    return Placement(activation="int8", symmetric=True, bias="float", residual="shortcut", pool=False, floats="float16")


def untimed(profile: Profile) -> str:
    return "fp16"  # it is not documented whether its INT8 convolutions are fast


def unavailable() -> str | None:
    return _trt.missing("tensorrt-rtx", "pip install -e '.[tensorrt-rtx]' in the .venv of respress")


def cannot_run() -> str | None:
    if reason := unavailable() or _trt.cannot_run():
        return reason
    trt = importlib.import_module("tensorrt_rtx")
    found = hardware.gpu() or {}
    if f"SM{found['compute_capability'].replace('.', '')}" in architectures(trt):
        return None
    capability = f"{found['name']} (compute capability {found['compute_capability']})"
    return f"TensorRT-RTX {trt.__version__} does not support {capability}; it supports {', '.join(architectures(trt))}"


def half(profile: Profile) -> str | None:
    return "fp16"


def platform() -> dict[str, Any]:
    return _trt.platform("tensorrt-rtx")


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    trt = importlib.import_module("tensorrt_rtx")
    known = architectures(trt)
    if unknown := [name for name in options.compute_capabilities if name not in known]:
        raise ValueError(f"unknown compute capability {', '.join(unknown)}; this version knows {', '.join(known)}")

    metrics = _trt.build(trt, options, out, model=model)
    engine = (out / _trt.FILE).read_bytes()
    return {
        **metrics,
        "compute_capabilities": list(options.compute_capabilities),
        "header_compute_capabilities": in_header(trt, engine),
        "header_faults": header_faults(trt, engine),
    }


def architectures(trt: Any) -> list[str]:
    members = trt.ComputeCapability.__members__
    return sorted((name for name in members if name.startswith("SM")), key=lambda name: int(members[name]))


def in_header(trt: Any, engine: bytes) -> list[str] | None:
    """The architectures that the header of the engine names; None if the header has another layout than the known one.

    The layout is not documented. It was found with engines that 1.7 built for one architecture each (the test repeats that):
    after the second "vtrt" tag comes a bit mask; its lowest bit is SM75, and so on upwards.
    """
    tagged = engine[:4] == engine[28:32] == b"vtrt" and int.from_bytes(engine[16:24], "little") == len(engine)
    mask = int.from_bytes(engine[32:36], "little")
    return [name for bit, name in enumerate(architectures(trt)) if mask >> bit & 1] if tagged else None


def header_faults(trt: Any, engine: bytes) -> list[str]:
    """The faults that the library finds in the header; without a GPU it can only find MALFORMED_ENGINE."""
    return faults(trt, started(trt, "Runtime"), engine)


def runner() -> str:
    return device_runner("trt").replace('MODULE = "tensorrt"', 'MODULE = "tensorrt_rtx"')


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    return _trt.load(importlib.import_module("tensorrt_rtx"), engine)
