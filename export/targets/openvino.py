"""Intel OpenVINO on the CPU: the engine is the ONNX file; OpenVINO compiles it for the processor when it is opened.

Its low-precision transformations turn Q/DQ into integer kernels (docs.openvino.ai: "Low Precision Transformations").
"""

import importlib
import importlib.metadata
import importlib.util
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.bundle import device_runner
from export.targets._engine import described
from pipeline import hardware
from pipeline.config import Config
from pipeline.placement import Placement

REQUIRES = ("openvino",)
READS = "onnx"
# Measured on AVX512-VNNI, ResNet-50 at 224x224, batch 1, 2 threads (p50 of 250, in turns): as below 8.4 ms; with int32 biases
# 8.6; quantized at the shortcut only 9.0 to 9.2; FP32 32.0 ms.
PLACEMENT: Placement | None = Placement(
    activation="uint8",
    symmetric=False,
    reduce_range=not hardware.is_arm() and not hardware.has_vnni(),
    bias="float",
    residual="all",
    pool=True,
)
INTEGERS = ("u8", "i8")


class Options(Config):
    """OpenVINO needs no options."""


def unavailable() -> str | None:
    if importlib.util.find_spec("openvino") is None:
        return "package openvino is not installed: pip install -e '.[openvino]' in the .venv of respress"
    return None


def cannot_run() -> str | None:
    return unavailable()


def platform() -> dict[str, Any]:
    version = None if unavailable() else importlib.metadata.version("openvino")
    return {**hardware.cpu(), "openvino": version}


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Copy the ONNX file and read off the compiled network how much of it is integer work."""
    engine = Path(shutil.copy(model / "model.onnx", out / "engine.onnx"))
    quantized = any(node.op_type == "QuantizeLinear" for node in onnx.load(engine).graph.node)
    share = int8_share(engine) if quantized else 0.0
    return described(engine, precision="int8" if quantized else "fp32", int8_share=share)


def runner() -> str:
    return device_runner("openvino")


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function float32 [N, C, H, W] -> float32 logits [N, classes]; compiled once for every N that it meets."""
    requests: dict[int, Any] = {}

    def run(x: np.ndarray) -> np.ndarray:
        if len(x) not in requests:
            requests[len(x)] = compiled(engine / "engine.onnx", len(x), threads).create_infer_request()
        return np.array(requests[len(x)].infer({0: x})[0])

    return run


def compiled(file: Path, batch: int, threads: int) -> Any:
    """`file` compiled for `batch` images at a time.

    Float layers stay in float32: by default OpenVINO computes them in bfloat16 where the processor can, and a row that says
    FP32 would not be one.
    """
    core = importlib.import_module("openvino").Core()
    model = core.read_model(file)
    _, *image = model.input(0).get_partial_shape()
    model.reshape([batch, *image])
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(model, "CPU", config)


def int8_share(file: Path) -> float:
    """Share of the multiply-accumulates of convolutions and matrix products that integer kernels execute.

    Taken from OpenVINO's own view of the network it will execute (its runtime model), with the shapes it has there.
    """
    macs = {"integer": 0, "float": 0}
    for operation in compiled(file, 1, 1).get_runtime_model().get_ordered_ops():
        about = {key: value.astype(str) for key, value in operation.get_rt_info().items()}
        if about.get("layerType") not in ("Convolution", "FullyConnected", "MatMul"):
            continue
        weight, output = (math.prod(end.get_shape()) for end in (operation.input(1), operation.output(0)))
        channels = operation.output(0).get_shape()[1]
        macs["integer" if about["runtimePrecision"] in INTEGERS else "float"] += output * weight // channels
    return macs["integer"] / max(1, sum(macs.values()))
