"""What TensorRT and TensorRT-RTX share: model.onnx -> model.engine, and running it on the GPU of this machine.

Every function that needs the library takes the imported module as its first argument, `trt`. What also runs on the
device is in export/device/: building in trt_build.py, opening in runner_trt.py.
"""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from pydantic import Field, model_validator

from core import hardware
from core.graph import WORK, has_float16, is_quantized, macs_per_node
from core.placement import Placement
from core.text import one_line
from export.device import runner_trt, trt_build
from export.targets._engine import EngineOptions, described

FILE = "model.engine"


class Options(EngineOptions):
    """The batch size to tune for, and the largest one; the smallest is 1, because the programs in a bundle pass one image.

    TF32 is off: a baseline called FP32 should be FP32.

    Three changes of how Q/DQ is placed may be quicker, and were not measured on a GPU here:
    int8_average     the average before the classifier reads integers, so that the last Add is part of an INT8 kernel, too
                     (NVIDIA's ResNet-18 on an A100, batch 32: 0.500 instead of 0.546 ms; FP16: 0.862)
    int8_classifier  off: the classifier stays in float16, as in NVIDIA's Model Optimizer for single images
    float32_input    images are quantized in float32, without being made float16 before
    """

    opt_batch: int = Field(default=1, ge=1)
    max_batch: int = 64
    tf32: bool = False
    int8_average: bool = False
    int8_classifier: bool = True
    float32_input: bool = False

    def placed(self, placement: Placement) -> Placement:
        kind: Literal["floats", "float32"] = "float32" if self.float32_input else "floats"
        return placement.model_copy(update={"average": self.int8_average, "classifier": self.int8_classifier, "input": kind})

    @model_validator(mode="after")
    def in_order(self) -> "Options":
        if self.opt_batch > self.max_batch:
            raise ValueError(f"opt_batch <= max_batch expected, got {self.opt_batch}, {self.max_batch}")
        return self


def missing(package: str, install: str) -> str | None:
    """Why `package` cannot be imported, and what to do; None if it can."""
    module = package.replace("-", "_")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # OSError, RuntimeError, FileNotFoundError: its libraries are loaded on import
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return f"package {package} is not installed: {install}"
        return f"package {package} does not load ({one_line(error)}): {install}"
    # A folder of that name, such as one in a bundle, is imported as a package without content.
    return None if hasattr(found, "__version__") else f"package {package} is not installed: {install}"


@cache
def cannot_start(trt: Any) -> str | None:
    """Why the library cannot use the GPU; None if it can."""
    try:
        trt_build.started(trt, "Builder")
    except ValueError as error:
        return str(error)
    return None


def no_gpu() -> str | None:
    return None if hardware.gpu() else "no NVIDIA GPU here: its driver (libcuda.so.1, nvcuda.dll) is missing or finds no device"


def cannot_run() -> str | None:
    import torch

    if (reason := no_gpu()) or torch.cuda.is_available():
        return reason
    return f"torch {torch.__version__} cannot use the GPU: install a CUDA build, see https://pytorch.org/get-started"


def platform(package: str) -> dict[str, Any]:
    version = None if missing(package, "") else importlib.import_module(package.replace("-", "_")).__version__
    found = hardware.gpu() or {}
    return {**hardware.cpu(), "runtime": package, "version": version, "gpu": found.get("name"),
            "compute_capability": found.get("compute_capability"), "driver": found.get("driver")}  # fmt: skip


def build(trt: Any, options: Options, out: Path, *, model: Path) -> dict[str, Any]:
    """Build `out`/model.engine from `model`/model.onnx, with float16 and Q/DQ as they stand in the file."""
    file = model / "model.onnx"
    graph = onnx.load(file)
    precision = precision_of(graph)
    engine = trt_build.build_engine(trt, file, options.model_dump(exclude={"profile"}), flags=weak_flags(graph))
    (out / FILE).write_bytes(engine)
    share = int8_share(trt, engine, graph, options.opt_batch) if precision == "int8" else 0.0
    return {
        **described(out / FILE, precision=precision, int8_share=share),
        "tf32": options.tf32,
        "strongly_typed": trt_build.strongly_typed(trt),
        "batches": [1, options.opt_batch, options.max_batch],
        "runtime": f"{trt.__name__} {trt.__version__}",
    }


def weak_flags(graph: onnx.ModelProto) -> list[str]:
    """The flags without which weakly typed networks ignore Q/DQ and float16 weights."""
    return ["INT8"] * is_quantized(graph) + ["FP16"] * has_float16(graph)


def precision_of(graph: onnx.ModelProto) -> str:
    """The precision of the file: "int8" with Q/DQ nodes, else that of its conv and gemm weights."""
    if is_quantized(graph):
        return "int8"
    weights = {node.input[1] for node in graph.graph.node if node.op_type in WORK}
    half = {t.data_type == onnx.TensorProto.FLOAT16 for t in graph.graph.initializer if t.name in weights}
    return "mixed" if len(half) == 2 else "fp16" if True in half else "fp32"


def int8_share(trt: Any, engine: bytes, graph: onnx.ModelProto, batch: int) -> float | None:
    """Share of the multiply-accumulates that the engine executes in INT8; None without a GPU that can load it.

    TensorRT-RTX builds for other GPUs than the one in the machine.
    """
    if no_gpu():
        return None
    try:
        loaded, context, _alive = contextualized(trt, engine)
    except ValueError:
        return None
    return trt_build.int8_share(trt, loaded, context, (batch, *image_shape(graph)), macs_per_node(graph))


def image_shape(graph: onnx.ModelProto) -> list[int]:
    """[C, H, W] of the input."""
    return [dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim[1:]]


def contextualized(trt: Any, engine: bytes) -> tuple[Any, Any, Any]:
    """The engine on this machine's GPU, a context to execute it in, and what must live as long as they do.

    Raises ValueError with the faults that the library finds in the engine, before loading it where the library can check that.
    """
    log = trt_build.logger(trt)
    log.errors.clear()
    runtime = trt_build.started(trt, "Runtime")
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # version-compatible engines carry their own runtime; these are ours
    refused = f"{trt.__name__} {trt.__version__} cannot load the engine on {hardware.gpu() or 'no GPU'}"
    if found := runner_trt.faults(trt, runtime, engine):
        raise ValueError(f"{refused}: {', '.join(found)}; build it again for this machine")
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise ValueError(f"{refused}: {trt_build.why(log)}")
    settings = runner_trt.runtime_settings(trt, loaded)
    context = loaded.create_execution_context() if settings is None else loaded.create_execution_context(settings)
    if context is None:
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot prepare the engine: {trt_build.why(log)}")
    return loaded, context, (runtime, settings)


def load(trt: Any, engine: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images to logits; both copies, to the GPU and back, are part of it. torch owns the memory."""
    import torch

    loaded, context, alive = contextualized(trt, (engine / FILE).read_bytes())
    source, result = trt_build.tensors(trt, loaded)
    smallest, _, largest = loaded.get_tensor_profile_shape(source, 0)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(images: np.ndarray) -> np.ndarray:
        if not smallest[0] <= len(images) <= largest[0]:
            raise ValueError(f"batch {len(images)}: the engine was built for {smallest[0]} to {largest[0]} (max_batch)")
        with torch.inference_mode(), torch.cuda.stream(stream):
            given = torch.from_numpy(np.require(images, np.float32, ["C", "W"])).cuda()
            context.set_input_shape(source, tuple(given.shape))
            logits = torch.empty(tuple(context.get_tensor_shape(result)), dtype=torch.float32, device="cuda")
            context.set_tensor_address(source, given.data_ptr())
            context.set_tensor_address(result, logits.data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise ValueError(f"{trt.__name__} failed on a batch of {len(images)}: {trt_build.why(trt_build.logger(trt))}")
            return np.asarray(logits.cpu())

    run.__dict__["alive"] = (loaded, alive)  # the context points into them
    return run
