"""ONNX file -> engine, with TensorRT 8.5 (JetPack 5) to 11 or TensorRT-RTX: one implementation for pipeline and device.

Every function that needs the library takes the imported module as its first argument, `trt`: its flags come and go, so
each is looked up before it is used. Standard library only, and Python 3.8, because that is what JetPack 5 has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt  # the stubs of version 10 (PyPI: tensorrt-stubs), for `make check`


@lru_cache(maxsize=None)  # noqa: UP033 - functools.cache is newer than Python 3.8
def logger(trt: Any) -> Any:
    """Collects errors and warnings instead of printing them. One per process: the library keeps the first logger it gets."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            found = {"ERROR": self.errors, "INTERNAL_ERROR": self.errors, "WARNING": self.warnings}.get(severity.name)
            if found is not None:
                sentence = re.sub(r"\[\w+\.cpp:[^]]*\] | In \w+ at /[^)\s]*", "", message)  # positions in NVIDIA's source
                found.append(" ".join(sentence.split()))

    return Log()


def why(log: Any) -> str:
    return str(log.errors[0]).strip() if log.errors else "the library gave no reason"


def started(trt: Any, kind: str) -> Any:
    """`trt.Builder` or `trt.Runtime`, as `kind` says.

    Raises ValueError where CUDA does not initialise for this library: it says why in a warning, and its constructor raises
    TypeError, because pybind11 gets no object (NVIDIA/TensorRT#2913).
    """
    log = logger(trt)
    log.warnings.clear()
    try:
        return getattr(trt, kind)(log)
    except TypeError as error:
        reasons = [line for line in (*log.errors, *log.warnings) if "CUDA" in line] or [" ".join(str(error).split())]
        raise ValueError(
            f"{trt.__name__} {trt.__version__} cannot use the GPU ({reasons[-1]}): update the GPU's driver, or install the "
            "package for an older CUDA, such as tensorrt-cu12"
        ) from error


def build_engine(trt: Any, file: Path, options: Mapping[str, Any], *, flags: Sequence[str] = (), weakly: bool = False) -> bytes:
    """The engine of the ONNX `file`. `options`: the fields of the target's Options. `flags`: what a weakly typed build
    may use, "INT8", "FP16"; `weakly`: the builder chooses the types, where TensorRT still supports that.

    Raises ValueError with the parser's errors, node by node, or with what the builder logged.
    """
    log = logger(trt)
    log.errors.clear()
    strong = strongly_typed(trt) and not (weakly and hasattr(trt.BuilderFlag, "INT8"))
    builder: tensorrt.Builder = started(trt, "Builder")
    network = builder.create_network(network_flags(trt, strong))
    parser: tensorrt.OnnxParser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(file)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(map(complaint, errors)) or why(log)
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot read {file}: {reasons}")

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise the inspector returns names only
    for name in () if strong else flags:  # strongly typed networks must not have them
        config.set_flag(getattr(trt.BuilderFlag, name))
    set_options(trt, config, options)
    source = network.get_input(0)
    image: Any = source.shape[1:]
    shapes: Any = [(batch, *image) for batch in (1, options["opt_batch"], options["max_batch"])]
    profile = builder.create_optimization_profile()
    profile.set_shape(source.name, *shapes)
    config.add_optimization_profile(profile)
    timings = timing_cache(config, options.get("timing_cache"))
    log.errors.clear()  # a cache of another library or GPU is an error in the log, and not the reason of a failed build

    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot build {file}: {why(log)}")
    if timings is not None:
        Path(options["timing_cache"]).write_bytes(bytes(timings.serialize()))
    return bytes(serialized)


def strongly_typed(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: Any, strong: bool = True) -> int:
    """Explicit batches before TensorRT 10; strong typing wherever it exists (10.12 recommends it, 11 has nothing else)."""
    known = trt.NetworkDefinitionCreationFlag
    wanted = ["EXPLICIT_BATCH", "STRONGLY_TYPED"] if strong else ["EXPLICIT_BATCH"]
    return sum(1 << int(getattr(known, name)) for name in wanted if hasattr(known, name))


def set_options(trt: Any, config: tensorrt.IBuilderConfig, options: Mapping[str, Any]) -> None:
    """Set the `options` of the recipe. Some exist in only one of the libraries and are not in the options of the other one."""
    if hasattr(trt.BuilderFlag, "TF32"):  # on by default
        (config.set_flag if options["tf32"] else config.clear_flag)(trt.BuilderFlag.TF32)
    if options.get("workspace_mib") is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace_mib"] << 20)
    if options.get("version_compatible"):
        config.set_flag(named(trt, trt.BuilderFlag, "VERSION_COMPATIBLE"))
    if options.get("hardware_compatibility", "none") != "none":
        levels = named(trt, trt, "HardwareCompatibilityLevel")
        config.hardware_compatibility_level = named(trt, levels, options["hardware_compatibility"].upper())
    if options.get("compute_capabilities"):
        rtx: Any = config
        rtx.num_compute_capabilities = len(options["compute_capabilities"])
        for index, name in enumerate(options["compute_capabilities"]):
            rtx.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def named(trt: Any, group: Any, name: str) -> Any:
    if not hasattr(group, name):
        raise ValueError(f"TensorRT {trt.__version__} has no {name}: remove the option, or use a newer TensorRT")
    return getattr(group, name)


def timing_cache(config: tensorrt.IBuilderConfig, file: Any) -> tensorrt.ITimingCache | None:
    """The times of tactics in earlier builds, from `file`; empty when it is from another library or GPU."""
    if file is None:
        return None
    earlier = Path(file).read_bytes() if Path(file).exists() else b""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def complaint(error: tensorrt.ParserError) -> str:
    """A parser error in one line: the node and the operator (known since TensorRT 10), and the message."""
    where = f"node {error.node()}"
    if hasattr(error, "node_name"):
        where = f"node {error.node_name() or error.node()} ({error.node_operator()})"
    return f"{where}: {' '.join(error.desc().split())}"


def tensors(trt: Any, engine: tensorrt.ICudaEngine) -> tuple[str, str]:
    """The names of the input and of the output; their order in the engine is not defined."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    source, result = sorted(names, key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
    return source, result


def int8_share(
    trt: Any, engine: tensorrt.ICudaEngine, context: tensorrt.IExecutionContext, shape: Sequence[int], macs: Mapping[str, int]
) -> float | None:
    """Share of `macs` {node: multiply-accumulates} that the opened `engine` executes in INT8 for inputs of `shape`.

    None where it is unknown. What the inspector prints is not the same in all versions, so any error means that, too.
    """
    try:
        context.set_input_shape(tensors(trt, engine)[0], tuple(shape))
        inspector = engine.create_engine_inspector()
        inspector.execution_context = context  # without shapes, types read "N/A due to dynamic shapes"
        return share_of(layers_of(inspector.get_engine_information(trt.LayerInformationFormat.JSON)), macs)
    except Exception:
        return None


def layers_of(text: str) -> list[Any]:
    """The layers in the JSON of the inspector, or of trtexec --exportLayerInfo. It may have raw control characters in it."""
    return list(json.loads(text, strict=False).get("Layers", []))


def share_of(layers: Sequence[Any], macs: Mapping[str, int]) -> float | None:
    """Share of `macs` in layers that read integers; None unless every node is in exactly one compute layer."""
    integer = 0
    for name, count in macs.items():
        doing = [one for one in layers if isinstance(one, dict) and computes(one) and contains(one, name)]
        types = [datatype(one["Inputs"][0]) for one in doing if one.get("Inputs")]
        if len(doing) != 1 or len(types) != 1 or types[0].startswith("N/A"):
            return None
        integer += count * ("int8" in types[0].lower())
    return integer / sum(macs.values()) if macs else None


def computes(layer: Mapping[str, Any]) -> bool:
    kind = " ".join(str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "TacticName"))
    return re.search(r"conv|gemm|matrix_?multiply|matmul|fprop", kind, re.IGNORECASE) is not None


def contains(layer: Mapping[str, Any], node: str) -> bool:
    """Whether `node` is part of the layer.

    Metadata names the nodes: "[ONNX Layer: conv1]" for each (onnx-tensorrt, ImporterContext). The inspector shows it since
    TensorRT 10; before, the name of the layer is that of its nodes, with " + " between them.
    """
    if layer.get("Metadata"):
        return re.search(rf"\[ONNX Layer: {re.escape(node)}( \||\])", layer["Metadata"]) is not None
    return node in str(layer.get("Name", "")).split(" + ")


def datatype(tensor: Mapping[str, Any]) -> str:
    """The type of a layer's input: part of "Format/Datatype" before TensorRT 11, which has "Datatype" and "Format"."""
    return next((str(value) for key, value in tensor.items() if key.lower() in ("format/datatype", "datatype")), "N/A")
