"""ONNX Runtime on the CPU: the engine is the ONNX file itself."""

import importlib.metadata
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from core import hardware
from core.graph import is_quantized, macs_of
from core.ort import open_session
from core.placement import Placement
from core.profile import Profile
from export.bundle import device_runner
from export.targets._engine import EngineOptions, check_readable, described

REQUIRES = ("onnxruntime",)
READS = "onnx"
INTEGER_OPERATORS = {"QLinearConv", "QGemm", "ConvInteger", "MatMulInteger", "QLinearMatMul", "MatMulIntegerToFloat"}
FLOAT_OPERATORS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
MADE_FOR: Literal["cpu", "gpu"] | None = "cpu"
prepare = None


class Options(EngineOptions):
    """ONNX Runtime needs no options of its own."""


def placement(profile: Profile) -> Placement | None:
    """Measured on AVX512-VNNI, ResNet-50 at batch 1: uint8 activations 7.7 ms, int8 19.7 ms. On ARM int8 is the fast one."""
    return Placement(
        activation=profile.activation,
        symmetric=False,
        reduce_range=profile.reduce_range,
        bias="int32",
        residual="all",
        pool=True,
    )


def untimed(profile: Profile) -> str:
    return "int8"


def unavailable() -> str | None:
    """onnxruntime is a core dependency: it always builds."""
    return None


def cannot_run() -> str | None:
    """It always runs."""
    return None


def half(profile: Profile) -> str | None:
    """None: on x86 its CPU kernels compute float16 files in float32, between casts; those for ARM were never measured."""
    return None


def platform() -> dict[str, Any]:
    return {**hardware.cpu(), "onnxruntime": importlib.metadata.version("onnxruntime")}


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Copy the ONNX file, and run it once to measure the share of integer work; that of another device is not known."""
    engine = Path(shutil.copy(model / "model.onnx", out / "engine.onnx"))
    proto = onnx.load(engine)
    check_readable(proto, options.profile)
    if not is_quantized(proto):
        return described(engine, precision="fp32", int8_share=0.0)
    return described(engine, precision="int8", int8_share=int8_share(engine) if options.profile.is_here else None)


def runner() -> str:
    return device_runner("onnxruntime")


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function float32 [N, C, H, W] -> float32 logits [N, classes]."""
    session = open_session(engine / "engine.onnx", threads)

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"input": x})[0])

    return run


def int8_share(file: Path) -> float:
    """Share of the multiply-accumulates of convolutions and matrix products that integer kernels executed.

    Taken from the profile of one run: the kernels that really ran, with the shapes they ran on.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(file, threads=1, profile=Path(folder) / "profile")
        shape = [d if isinstance(d, int) else 1 for d in session.get_inputs()[0].shape]
        session.run(None, {"input": np.zeros(shape, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    macs = {"integer": 0, "float": 0}
    for event in events:
        details = event.get("args", {})
        kind = details.get("op_name")
        if event.get("cat") != "Node" or kind not in INTEGER_OPERATORS | FLOAT_OPERATORS or "output_type_shape" not in details:
            continue
        shapes = [next(iter(entry.values())) for entry in details["input_type_shape"]]
        output = next(iter(details["output_type_shape"][0].values()))
        weight = max((s for s in shapes[1:] if len(s) == len(output)), key=math.prod)
        channels = weight[0] if len(weight) == 4 else output[-1]  # outputs may be NHWC, weights are always OIHW
        macs["integer" if kind in INTEGER_OPERATORS else "float"] += macs_of(output, weight, channels)
    return macs["integer"] / max(1, sum(macs.values()))
