"""NVIDIA TensorRT 8.5 to 11: model.onnx -> model.engine for the GPU of this machine, also Jetson.

Engines are tied to the TensorRT version, the GPU architecture and the operating system, unless the options below say
otherwise; each costs some speed (TensorRT developer guide, "Version Compatibility", "Hardware Compatibility").
"""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from pydantic import model_validator

from core import hardware
from core.graph import macs_per_node
from core.placement import Placement
from core.profile import Profile
from export.bundle import DEVICE, device_runner
from export.half import halved
from export.targets import _trt
from export.targets._engine import check_readable, described
from export.targets._legacy import legacy

REQUIRES: tuple[str, ...] = ("tensorrt",)
READS = "onnx"
MADE_FOR: Literal["cpu", "gpu"] | None = "gpu"
ON_DEVICE = ("build.sh", "build_engine.py", "trt_build.py", "runner_trtexec.py")


class Options(_trt.Options):
    """`workspace_mib` limits scratch memory while tactics are tried; the file `timing_cache` is read and updated.

    `max_batch` is 16 for a named device, if it is not given: the memory for activations grows with it, and a Jetson has little.
    """

    workspace_mib: int | None = None
    version_compatible: bool = False
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    timing_cache: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def small_on_devices(cls, given: Any) -> Any:
        profile = given.get("profile") if isinstance(given, dict) else None
        return {"max_batch": 16, **given} if isinstance(profile, Profile) and profile.gpu else given


def placement(profile: Profile) -> Placement | None:
    return Placement(activation="int8", symmetric=True, bias="float", residual="shortcut", pool=False, floats="float16")


def untimed(profile: Profile) -> str:
    return "int8"


def unavailable() -> str | None:
    install = "pip install -e '.[tensorrt]' in the .venv of respress, on a machine with an NVIDIA GPU"
    if reason := _trt.missing("tensorrt", install):
        return reason
    if reason := _trt.no_gpu():
        return f"TensorRT times kernels on the GPU it builds for; {reason}"
    return _trt.cannot_start(importlib.import_module("tensorrt"))


def cannot_run() -> str | None:
    return _trt.cannot_run()


def half(profile: Profile) -> str | None:
    return "fp16"


def platform() -> dict[str, Any]:
    return _trt.platform("tensorrt")


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    metrics = _trt.build(importlib.import_module("tensorrt"), options, out, model=model)
    kept = {"version_compatible", "hardware_compatibility"}
    built_for = (hardware.gpu() or {}).get("compute_capability")
    return {**metrics, **options.model_dump(include=kept), "compute_capabilities": [built_for] if built_for else []}


def prepare(options: Options, out: Path, *, model: Path) -> dict[str, Any]:
    """Where there is no GPU: write the Q/DQ network for old and new TensorRT, and the scripts for building it on the device.

    model.onnx is float16 outside of its Q/DQ (TensorRT 10 and newer), legacy.onnx is float32 at opset 17. build.json has the
    options for build.sh and build_engine.py.
    """
    proto = onnx.load(model / "model.onnx")
    modern = halved(proto, float32_input=options.float32_input)
    check_readable(modern, options.profile)
    onnx.save(modern, out / "model.onnx")
    notes = []
    if options.hardware_compatibility != "none":
        notes.append(
            "The bundle of tensorrt leaves out hardware_compatibility: the device that builds the engine also runs it, and "
            "TensorRT for Jetson does not offer it."
        )
        options = options.model_copy(update={"hardware_compatibility": "none"})
    try:
        onnx.save(legacy(proto), out / "legacy.onnx")
    except ValueError as reason:
        notes.append(f"The bundle of tensorrt has no legacy.onnx, the network for TensorRT before version 10: {reason}")
    image = _trt.image_shape(proto)
    given = options.model_dump(mode="json", exclude={"profile"})
    plan = {
        "trtexec": " ".join(trtexec_options(options, image)),
        "image": image,
        "options": {**given, "timing_cache": "timing.cache" if options.timing_cache else None},
        "macs": macs_per_node(modern),
    }
    (out / "build.json").write_text(json.dumps(plan, indent=1))
    for name in ON_DEVICE:
        shutil.copy(DEVICE / name, out / name)
    return {**described(out / "model.onnx", precision="int8", int8_share=None), "notes": notes}


def trtexec_options(options: Options, image: list[int]) -> list[str]:
    """`options` as arguments of trtexec, which times a single image."""
    batches = {"min": 1, "opt": options.opt_batch, "max": options.max_batch}
    shapes = {key: "x".join(map(str, [batch, *image])) for key, batch in batches.items()}
    found = [f"--{key}Shapes=input:{shape}" for key, shape in shapes.items()] + [f"--shapes=input:{shapes['min']}"]
    if not options.tf32:
        found.append("--noTF32")
    if options.workspace_mib is not None:
        found.append(f"--memPoolSize=workspace:{options.workspace_mib}")
    if options.version_compatible:
        found.append("--versionCompatible")
    if options.timing_cache:
        found.append("--timingCacheFile=timing.cache")
    return found


def runner() -> str:
    return device_runner("trt")


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    return _trt.load(importlib.import_module("tensorrt"), engine)
