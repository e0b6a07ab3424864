"""NVIDIA TensorRT 8.5 to 11: model.onnx -> model.engine for the GPU of this machine, also Jetson.

Engines are tied to the TensorRT version, the GPU architecture and the operating system, unless the options below say
otherwise; each costs some speed (TensorRT developer guide, "Version Compatibility", "Hardware Compatibility").
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.bundle import device_runner
from export.targets import _trt
from pipeline import hardware
from pipeline.placement import Placement

REQUIRES: tuple[str, ...] = ("tensorrt",)
READS = "onnx"
PLACEMENT: Placement | None = Placement(activation="int8", symmetric=True, bias="float", residual="shortcut", pool=False)


class Options(_trt.Options):
    """`workspace_mib` caps scratch memory while tactics are tried; the file `timing_cache` is read and updated."""

    workspace_mib: int | None = None
    version_compatible: bool = False
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    timing_cache: Path | None = None


def unavailable() -> str | None:
    install = "pip install -e '.[tensorrt]' in the .venv of respress, on a machine with an NVIDIA GPU"
    if reason := _trt.missing("tensorrt", install):
        return reason
    if reason := _trt.no_gpu():
        return f"TensorRT times kernels on the GPU it builds for; {reason}"
    return None


def cannot_run() -> str | None:
    return _trt.cannot_run()


def platform() -> dict[str, Any]:
    return _trt.platform("tensorrt")


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    trt = importlib.import_module("tensorrt")
    caches: list[Any] = []

    def configure(config: Any) -> None:
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.version_compatible:
            config.set_flag(named(trt, trt.BuilderFlag, "VERSION_COMPATIBLE"))
        if options.hardware_compatibility != "none":
            levels = named(trt, trt, "HardwareCompatibilityLevel")
            config.hardware_compatibility_level = named(trt, levels, options.hardware_compatibility.upper())
        if file := options.timing_cache:
            caches.append(config.create_timing_cache(file.read_bytes() if file.exists() else b""))
            config.set_timing_cache(caches[0], ignore_mismatch=False)

    metrics = _trt.build(trt, options, out, model=model, configure=configure)
    if options.timing_cache:
        options.timing_cache.write_bytes(bytes(caches[0].serialize()))
    kept = {"version_compatible", "hardware_compatibility"}
    built_for = (hardware.gpu() or {}).get("compute_capability")
    return {**metrics, **options.model_dump(include=kept), "compute_capabilities": [built_for] if built_for else []}


def named(trt: Any, group: Any, name: str) -> Any:
    if not hasattr(group, name):
        raise ValueError(f"TensorRT {trt.__version__} has no {name}: take the option out, or use a newer TensorRT")
    return getattr(group, name)


def runner() -> str:
    return device_runner("trt")


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    return _trt.load(importlib.import_module("tensorrt"), engine)
