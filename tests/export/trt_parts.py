"""What the tests of both TensorRT targets share: a network that takes milliseconds, and a library that records."""

from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

H200 = {"name": "H200", "compute_capability": "9.0", "driver": "CUDA 13.0"}


def tiny(folder: Path, *, quantized: bool = False, half: bool = False, unknown_operator: bool = False) -> Path:
    """A stage folder with model.onnx: conv, residual conv, pooling, gemm; Q/DQ placed as TensorRT wants it."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    kind = np.float16 if half else np.float32

    def tensor(name: str, values: Any) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def activation(name: str) -> str:
        if not quantized:
            return name
        step = [tensor(f"{name}_scale", kind(0.03)), tensor(f"{name}_zero", np.int8(0))]
        return node("DequantizeLinear", [node("QuantizeLinear", [name, *step], f"{name}_q"), *step], f"{name}_dq")

    def weight(name: str, *shape: int) -> str:
        values = rng.normal(0, 0.2, shape).astype(kind)
        if not quantized:
            return tensor(name, values)
        scale = np.abs(values).reshape(shape[0], -1).max(axis=1) / 127
        integers = np.rint(values / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        zero = np.zeros(shape[0], np.int8)
        return node("DequantizeLinear", [tensor(f"{name}_i", integers), tensor(f"{name}_s", scale.astype(kind)),
                                         tensor(f"{name}_z", zero)], name, axis=0)  # fmt: skip

    image = node("Cast", ["input"], "half", to=TensorProto.FLOAT16) if half else "input"
    spatial = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    bias = tensor("bias", np.full(16, 0.1, kind))
    first = node("Relu", [node("Conv", [activation(image), weight("w1", 16, 3, 3, 3), bias], "conv1", **spatial)], "r1")
    shortcut = activation(first)
    second = node("Conv", [shortcut, weight("w2", 16, 16, 3, 3), bias], "conv2", **spatial)
    joined = node("Relu", [node("Add", [second, shortcut], "add")], "r2")
    if unknown_operator:
        joined = node("NoSuchOperator", [joined], "the_culprit")
    flat = node("Flatten", [node("GlobalAveragePool", [joined], "pool")], "flat")
    fc = [activation(flat), weight("w3", 10, 16), tensor("bias3", np.zeros(10, kind))]
    gemm = node("Gemm", fc, "fc", transB=1)
    node("Cast" if half else "Identity", [gemm], "logits", **({"to": TensorProto.FLOAT} if half else {}))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        tensors,
    )
    opset = 19 if half else 17  # Q/DQ in float16 begins there
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9 if half else 8)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder


def stand_in(version: str) -> Any:
    """What `import tensorrt` gives, as far as we look at it. 8: weakly typed only; 10: both; 11: strongly typed only."""
    major = int(version.split(".")[0])
    legacy = {"INT8": "INT8", "FP16": "FP16"} if major < 11 else {}
    trt = ModuleType("tensorrt")
    trt.__dict__.update(
        __version__=version,
        ILogger=type("ILogger", (), {}),
        NetworkDefinitionCreationFlag=type("Flag", (), {"EXPLICIT_BATCH": 0} if major < 10 else {"STRONGLY_TYPED": 1}),
        BuilderFlag=type("Flag", (), {"TF32": "TF32", **legacy, **({} if major < 10 else {"VERSION_COMPATIBLE": "VC"})}),
        ProfilingVerbosity=type("Verbosity", (), {"DETAILED": "DETAILED"}),
        MemoryPoolType=type("Pool", (), {"WORKSPACE": "WORKSPACE"}),
        Builder=MagicMock(), OnnxParser=MagicMock(), Runtime=MagicMock(), config=MagicMock(), network=MagicMock(),
    )  # fmt: skip
    if major >= 10:
        levels = {"AMPERE_PLUS": "ampere", **({"SAME_COMPUTE_CAPABILITY": "same"} if major >= 11 else {})}
        trt.__dict__["HardwareCompatibilityLevel"] = type("Level", (), levels)
    builder = trt.Builder.return_value
    builder.create_builder_config.return_value = trt.config
    builder.create_network.return_value = trt.network
    trt.network.get_input.return_value = MagicMock(shape=(-1, 3, 16, 16))
    trt.network.get_input.return_value.name = "input"
    builder.build_serialized_network.return_value = b"engine"
    return trt


def flags(method: Any) -> list[Any]:
    return [call.args[0] for call in method.call_args_list]


def one_line(reason: str | None) -> str:
    assert reason
    assert "\n" not in reason
    return reason
