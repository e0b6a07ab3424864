"""Options of the TensorRT targets that change where Q/DQ stands: what the file that the engine is built from looks like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, numpy_helper

from core.cache import Artifact, Stages
from export import targets
from export.bundle import Bundle
from export.half import Half
from export.targets import tensorrt
from measure.engines import Measure
from pipeline.builder import EngineBuilder
from tests.export.trt_parts import tiny

ALL = {"int8_average": True, "int8_classifier": False, "float32_input": True}


@pytest.fixture
def floats(tmp_path: Path) -> Artifact:
    """A residual network in float32, and ranges of all its tensors."""
    folder = tiny(tmp_path / "floats")
    names = ["input", *(name for node in onnx.load(folder / "model.onnx").graph.node for name in node.output)]
    (folder / "ranges.json").write_text(json.dumps({name: [-3.0, 3.0] for name in names}))
    return Artifact(folder, {"metrics": {}, "content": "floats"})


def files(floats: Artifact, target: str, tmp_path: Path, **options: Any) -> tuple[Path, Path]:
    """The folders of the float32 and of the float16 Q/DQ file."""
    configured = targets.get(target).Options(**options)
    builder = EngineBuilder(Stages(tmp_path / "stages"), target, floats, configured, Half(), Measure(), Bundle())
    placed = builder.place(floats, floats)
    return placed.path, builder.as_built(placed).path


def computed_by(folder: Path, operator: str, position: int = 0) -> str:
    """The operator that computes this input of the only node of `operator`; "" for a constant or the images."""
    nodes = list(onnx.load(folder / "model.onnx").graph.node)
    (node,) = (node for node in nodes if node.op_type == operator)
    return next((one.op_type for one in nodes if node.input[position] in one.output), "")


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt_rtx"])
def test_without_options_the_average_is_in_floats_and_the_classifier_in_integers(
    floats: Artifact, target: str, tmp_path: Path
) -> None:
    _, half = files(floats, target, tmp_path)
    assert computed_by(half, "GlobalAveragePool") == "Relu"
    assert [computed_by(half, "Gemm", i) for i in (0, 1)] == ["DequantizeLinear"] * 2


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt_rtx"])
def test_the_average_reads_integers_and_the_classifier_floats(floats: Artifact, target: str, tmp_path: Path) -> None:
    _, half = files(floats, target, tmp_path, int8_average=True, int8_classifier=False)
    assert computed_by(half, "GlobalAveragePool") == "DequantizeLinear"
    assert [computed_by(half, "Gemm", i) for i in (0, 1)] == ["Flatten", ""]


@pytest.mark.parametrize("exact", [False, True])
def test_images_are_quantized_in_float32_on_request(floats: Artifact, exact: bool, tmp_path: Path) -> None:
    placed, half = files(floats, "tensorrt", tmp_path, float32_input=exact)
    graph = onnx.load(half / "model.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    behind = next(node for node in graph.node if first.output[0] in node.input)
    kinds = [tensors[node.input[1]].data_type for node in (first, behind)]
    assert (first.input[0], *kinds) == (
        ("input", TensorProto.FLOAT, TensorProto.FLOAT16) if exact else ("input/half", *[TensorProto.FLOAT16] * 2)
    )
    values = [numpy_helper.to_array(tensors[node.input[1]]) for node in (first, behind)]
    assert values[0] == values[1]  # placed with a scale that float16 has
    assert read_by(graph, "input") == ["QuantizeLinear" if exact else "Cast"]
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    quantized = [stored(folder / "model.onnx", first.output[0], x) for folder in (placed, half)]
    assert np.array_equal(*quantized) is exact  # float16 images round to other integers


def read_by(graph: Any, name: str) -> list[str]:
    readers: list[NodeProto] = [node for node in graph.node if name in node.input]
    return [node.op_type for node in readers]


def stored(file: Path, tensor: str, x: np.ndarray) -> np.ndarray:
    """The `tensor` of int8 that the network computes for the images `x`."""
    proto = onnx.load(file)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(tensor, TensorProto.INT8, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([tensor], {"input": x})[0])


def test_the_device_builds_from_such_files_too(floats: Artifact, tmp_path: Path) -> None:
    placed, _ = files(floats, "tensorrt", tmp_path, **ALL)
    out = tmp_path / "out"
    out.mkdir()
    tensorrt.prepare(tensorrt.Options(**ALL), out, model=placed)
    assert read_by(onnx.load(out / "model.onnx").graph, "input") == ["QuantizeLinear"]
    assert computed_by(out, "GlobalAveragePool") == "DequantizeLinear"


def test_rtx_builds_the_file_with_all_of_them(floats: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    target = targets.get("tensorrt_rtx")
    _, half = files(floats, "tensorrt_rtx", tmp_path, **ALL)
    out = tmp_path / "out"
    out.mkdir()
    metrics = target.build(target.Options(**ALL), out, model=half, images=tmp_path)
    assert metrics["precision"] == "int8" and metrics["size_bytes"] > 10_000
