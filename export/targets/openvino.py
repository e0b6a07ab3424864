"""Intel OpenVINO on the CPU: the engine is the ONNX file; OpenVINO compiles it for the processor when it is opened.

Its low-precision transformations turn Q/DQ into integer kernels (docs.openvino.ai: "Low Precision Transformations").
"""

import importlib
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from core import hardware
from core.graph import has_float16, is_quantized, macs_of
from core.placement import Placement
from core.profile import Profile
from export.bundle import device_runner
from export.targets._engine import EngineOptions, check_readable, described

REQUIRES = ("openvino",)
READS = "onnx"
MADE_FOR: Literal["cpu", "gpu"] | None = "cpu"
prepare = None
PROPERTIES = "properties.json"  # the settings for compiling the engine, here and on the device
FP32 = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
FLOATS = {"fp16": "f16", "bf16": "bf16", None: "f32"}
NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}  # of OpenVINO's types


class Options(EngineOptions):
    """`hint` "throughput" computes a batch image by image, several at the same time, each on a few of the cores."""

    hint: Literal["latency", "throughput"] = "latency"


def placement(profile: Profile) -> Placement | None:
    """Measured on AVX512-VNNI, ResNet-50 at 224x224, batch 1, 2 threads (p50 of 250, in turns): as below 8.4 ms; with int32
    biases 8.6; quantized at the shortcut only 9.0 to 9.2; FP32 32.0 ms."""
    return Placement(
        activation="uint8", symmetric=False, reduce_range=profile.reduce_range, bias="float", residual="all", pool=True
    )


def untimed(profile: Profile) -> str:
    """On ARM it computes INT8 networks in 16-bit floats (openvino#32876): there, 8 bits only lose accuracy."""
    return "fp16" if profile.is_arm else "int8"


def unavailable() -> str | None:
    if importlib.util.find_spec("openvino") is None:
        return "package openvino is not installed: pip install -e '.[openvino]' in the .venv of respress"
    return None


def cannot_run() -> str | None:
    return unavailable()


def half(profile: Profile) -> str | None:
    """The 16-bit floats of the processor; here float16 before bfloat16, whose steps are 8 times coarser."""
    if not profile.is_here:
        return profile.half
    able = importlib.import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "fp16" if "FP16" in able else "bf16" if "BF16" in able else None


def platform() -> dict[str, Any]:
    version = None if unavailable() else importlib.metadata.version("openvino")
    return {**hardware.cpu(), "openvino": version}


def build(options: Options, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Copy the ONNX file, fix the settings for compiling it, and read the precisions of the compiled network.

    For another device, the precision is that of the file, and the share of integer work is not known.

    The network is computed in the floats of the file. By default OpenVINO uses bfloat16 wherever the processor supports it; a
    row called FP32 would not be FP32.
    """
    engine = Path(shutil.copy(model / "model.onnx", out / "engine.onnx"))
    proto, floats16 = onnx.load(engine), half(options.profile)
    check_readable(proto, options.profile)
    floats = FLOATS[floats16] if holds_half(proto) else "f32"
    properties = {"PERFORMANCE_HINT": options.hint.upper(), "INFERENCE_PRECISION_HINT": floats}
    (out / PROPERTIES).write_text(json.dumps(properties))
    if not options.profile.is_here:
        in_file = "int8" if is_quantized(proto) else floats16 if holds_half(proto) else "fp32"
        return described(engine, precision=str(in_file), int8_share=None if in_file == "int8" else 0.0)
    macs = executed(compiled(engine, 1, 1, properties))
    precision = "int8" if macs["int8"] else max(macs, key=lambda name: macs[name])
    return described(engine, precision=precision, int8_share=share_of(macs))


def holds_half(proto: onnx.ModelProto) -> bool:
    """Whether its weights are float16 and nothing is quantized."""
    return has_float16(proto) and not is_quantized(proto)


def runner() -> str:
    return device_runner("openvino")


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function float32 [N, C, H, W] -> float32 logits [N, classes]; compiled once for each N."""
    file, properties = engine / "engine.onnx", json.loads((engine / PROPERTIES).read_text())
    if properties["PERFORMANCE_HINT"] == "THROUGHPUT":
        return one_by_one(compiled(file, 1, threads, properties))
    requests: dict[int, Any] = {}

    def run(x: np.ndarray) -> np.ndarray:
        if len(x) not in requests:
            requests[len(x)] = compiled(file, len(x), threads, properties).create_infer_request()
        return np.array(requests[len(x)].infer({0: x})[0])

    return run


def one_by_one(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function like that of `load`, with as many images at the same time in `network` as OpenVINO finds best."""
    queue = importlib.import_module("openvino").AsyncInferQueue(network)
    logits: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, index: logits.__setitem__(index, np.array(request.get_output_tensor().data)))

    def run(x: np.ndarray) -> np.ndarray:
        try:
            for index in range(len(x)):
                queue.start_async({0: x[index : index + 1]}, index)
        finally:  # after Ctrl-C too: a callback that runs while the interpreter exits is a segmentation fault
            queue.wait_all()
        return np.concatenate([logits.pop(index) for index in range(len(x))])

    return run


def compiled(file: Path, batch: int, threads: int, properties: dict[str, str] = FP32) -> Any:
    """`file` compiled for `batch` images at a time."""
    core = importlib.import_module("openvino").Core()
    model = core.read_model(file)
    _, *image = model.input(0).get_partial_shape()
    model.reshape([batch, *image])
    return core.compile_model(model, "CPU", {**properties, "INFERENCE_NUM_THREADS": threads})


def executed(network: Any) -> dict[str, int]:
    """Multiply-accumulates of convolutions and matrix products for one image, by the precision in which they are executed.

    Read from OpenVINO's runtime model of the compiled `network`, with the shapes there.
    """
    macs = dict.fromkeys(NAMES.values(), 0)
    for operation in network.get_runtime_model().get_ordered_ops():
        about = {key: value.astype(str) for key, value in operation.get_rt_info().items()}
        if about.get("layerType") not in ("Convolution", "FullyConnected", "MatMul"):
            continue
        weight, output = operation.input(1).get_shape(), operation.output(0).get_shape()
        macs[NAMES[about["runtimePrecision"]]] += macs_of(output, weight, output[1])
    return macs


def int8_share(file: Path) -> float:
    """Share of the multiply-accumulates of `file` that integer kernels execute."""
    return share_of(executed(compiled(file, 1, 1)))


def share_of(macs: dict[str, int]) -> float:
    return macs["int8"] / max(1, sum(macs.values()))
