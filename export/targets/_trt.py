"""What TensorRT and TensorRT-RTX share: model.onnx -> model.engine, and running it on the GPU of this machine.

Every function that needs the library takes the imported module as its first argument, `trt`: TensorRT-RTX, or
TensorRT 8.5 (JetPack 5) to 11, whose flags come and go, so each is looked up before it is used.
"""

import importlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import Field, model_validator

from export.targets._engine import described
from pipeline import hardware
from pipeline.config import Config

FILE = "model.engine"
WORK = ("Conv", "Gemm", "MatMul")


class Options(Config):
    """Batch sizes accepted, and which to tune for. TF32 is off: a baseline called FP32 should be FP32."""

    min_batch: int = Field(default=1, ge=1)
    opt_batch: int = 1
    max_batch: int = 64
    tf32: bool = False

    @model_validator(mode="after")
    def in_order(self) -> "Options":
        if not self.min_batch <= self.opt_batch <= self.max_batch:
            got = f"{self.min_batch}, {self.opt_batch}, {self.max_batch}"
            raise ValueError(f"min_batch <= opt_batch <= max_batch expected, got {got}")
        return self


def missing(package: str, install: str) -> str | None:
    """Why `package` cannot be imported, and what to do; None if it can."""
    module = package.replace("-", "_")
    try:
        importlib.import_module(module)
    except Exception as error:  # OSError, RuntimeError, FileNotFoundError: its libraries are looked for on import
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return f"package {package} is not installed: {install}"
        return f"package {package} does not load ({' '.join(str(error).split())}): {install}"
    return None


def no_gpu() -> str | None:
    return None if hardware.gpu() else "no NVIDIA GPU here: its driver (libcuda.so.1) is missing or finds no device"


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


@cache
def logger(trt: Any) -> Any:
    """Collects errors instead of printing. One per process: the library holds on to the first one it is given."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                sentence = re.sub(r"\[\w+\.cpp:[^]]*\] | In \w+ at /[^)\s]*", "", message)  # source lines of NVIDIA's
                self.errors.append(" ".join(sentence.split()))

    return Log()


def build(
    trt: Any, options: Options, out: Path, *, model: Path, configure: Callable[[Any], None] = lambda config: None
) -> dict[str, Any]:
    """Build `out`/model.engine from `model`/model.onnx; `configure` sets what only one of the libraries has."""
    log = logger(trt)
    log.errors.clear()
    file = model / "model.onnx"
    graph = onnx.load(file)
    precision = precision_of(graph)

    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(file)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot read {file}: {'; '.join(map(complaint, errors))}")

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector gives names only
    set_flags(trt, config, precision=precision, tf32=options.tf32)
    source = network.get_input(0)
    batches = (options.min_batch, options.opt_batch, options.max_batch)
    shapes = [(batch, *source.shape[1:]) for batch in batches]
    profile = builder.create_optimization_profile()
    profile.set_shape(source.name, *shapes)
    config.add_optimization_profile(profile)
    configure(config)

    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot build {file}: {why(log)}")
    engine = bytes(serialized)
    (out / FILE).write_bytes(engine)
    share = int8_share(trt, engine, graph, shapes[1]) if precision == "int8" else 0.0
    return {
        **described(out / FILE, precision=precision, int8_share=share),
        "tf32": options.tf32,
        "strongly_typed": strongly_typed(trt),
        "batches": batches,
        "runtime": f"{trt.__name__} {trt.__version__}",
    }


def strongly_typed(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: Any) -> int:
    """Explicit batches before TensorRT 10, strong typing wherever it exists (10.12 wants it, 11 has nothing else)."""
    known = trt.NetworkDefinitionCreationFlag
    wanted = [getattr(known, name) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(known, name)]
    return sum(1 << int(flag) for flag in wanted)


def set_flags(trt: Any, config: Any, *, precision: str, tf32: bool) -> None:
    """Weakly typed networks ignore Q/DQ and half weights without a flag; strongly typed ones refuse the flag."""
    legacy = {"int8": ["INT8"], "fp16": ["FP16"], "mixed": ["FP16"]}.get(precision, [])
    for name in [] if strongly_typed(trt) else legacy:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if hasattr(trt.BuilderFlag, "TF32"):  # on by default
        (config.set_flag if tf32 else config.clear_flag)(trt.BuilderFlag.TF32)


def complaint(error: Any) -> str:
    """One parser error: which node, which operator (both known since TensorRT 10), what."""
    where = f"node {error.node()}"
    if hasattr(error, "node_name"):
        where = f"node {error.node_name() or error.node()} ({error.node_operator()})"
    return f"{where}: {' '.join(error.desc().split())}"


def why(log: Any) -> str:
    return log.errors[0].strip() if log.errors else "the library gave no reason"


def precision_of(graph: onnx.ModelProto) -> str:
    """What the file holds: Q/DQ nodes, or the types of its conv and gemm weights."""
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        return "int8"
    weights = {node.input[1] for node in graph.graph.node if node.op_type in WORK}
    half = {t.data_type == onnx.TensorProto.FLOAT16 for t in graph.graph.initializer if t.name in weights}
    return "mixed" if len(half) == 2 else "fp16" if True in half else "fp32"


def int8_share(trt: Any, engine: bytes, graph: onnx.ModelProto, shape: tuple[int, ...]) -> float | None:
    """Read off the engine itself, which takes a GPU to load: None without one."""
    if no_gpu():
        return None
    loaded, context, _alive = contextualized(trt, engine)
    context.set_input_shape(graph.graph.input[0].name, shape)
    inspector = loaded.create_engine_inspector()
    inspector.execution_context = context  # without shapes, types read "N/A due to dynamic shapes"
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON)).get("Layers", [])
    return share_of(layers, macs_per_node(graph))


def share_of(layers: Sequence[Any], macs: Mapping[str, int]) -> float | None:
    """Share of `macs` in layers that read integers; None unless every node is found in exactly one compute layer.

    A layer names its nodes in Metadata: "[ONNX Layer: conv1]" for each (onnx-tensorrt, ImporterContext).
    """
    integer = 0
    for name, count in macs.items():
        tag = re.compile(rf"\[ONNX Layer: {re.escape(name)}( \||\])")
        doing = [one for one in layers if isinstance(one, dict) and computes(one) and tag.search(one.get("Metadata", ""))]
        types = [one["Inputs"][0].get("Format/Datatype", "N/A") for one in doing if one.get("Inputs")]
        if len(doing) != 1 or len(types) != 1 or types[0].startswith("N/A"):
            return None
        integer += count * ("int8" in types[0].lower())
    return integer / sum(macs.values()) if macs else None


def computes(layer: dict[str, Any]) -> bool:
    kind = " ".join(str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "TacticName"))
    return re.search(r"conv|gemm|matrix_?multiply|matmul|fprop", kind, re.IGNORECASE) is not None


def macs_per_node(graph: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each conv and gemm for one image; empty if nodes cannot be told apart by name."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.value_info, *inferred.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    nodes = [node for node in inferred.node if node.op_type in WORK]
    macs = {node.name: math.prod(shapes[node.output[0]][2:]) * math.prod(shapes[node.input[1]]) for node in nodes}
    return macs if len(macs) == len(nodes) and "" not in macs else {}


def contextualized(trt: Any, engine: bytes) -> tuple[Any, Any, Any]:
    """The engine on this machine's GPU, a context to execute it in, and what must live as long as they do."""
    log = logger(trt)
    log.errors.clear()
    runtime = trt.Runtime(log)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # version-compatible engines carry their own runtime; these are ours
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot load the engine on {hardware.gpu() or 'no GPU'}: {why(log)}")
    settings = None
    if hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        # TensorRT-RTX compiles for a new shape in the background and swaps the kernel later; we time what stays.
        settings = loaded.create_runtime_config()
        settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        context = loaded.create_execution_context(settings)
    else:
        context = loaded.create_execution_context()
    if context is None:
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot prepare the engine: {why(log)}")
    return loaded, context, (runtime, settings)


def load(trt: Any, engine: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images to logits; both copies, to the GPU and back, are part of it. torch owns the memory."""
    import torch

    loaded, context, alive = contextualized(trt, (engine / FILE).read_bytes())
    names = [loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)]
    source, result = sorted(names, key=lambda name: loaded.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
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
                raise ValueError(f"{trt.__name__} failed on a batch of {len(images)}: {why(logger(trt))}")
            return np.asarray(logits.cpu())

    run.__dict__["alive"] = (loaded, alive)  # the context points into them
    return run
