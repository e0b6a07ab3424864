"""How much of an engine's work is INT8, from what the inspector says and from the ONNX file it was built of."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from core.graph import macs_per_node
from export.device.trt_build import share_of
from export.half import halved
from export.targets import _trt
from tests.export.trt_parts import tiny


def layer(node: str, datatype: str, kind: str = "CaskConvolution") -> dict[str, Any]:
    """A layer as the inspector of TensorRT 10 prints it, less what we do not read."""
    metadata = f"[ONNX Layer: {node}]\x1f[ONNX Layer: {node}_relu]"
    return {"LayerType": kind, "Inputs": [{"Format/Datatype": datatype}], "Metadata": metadata}


MACS = {"conv1": 300, "fc": 100}
INT8, FP32 = "Thirty-two wide channel vectorized row major Int8 format", "Row major linear FP32 format"


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        ([layer("conv1", INT8), layer("fc", INT8, "gemm")], 1.0),
        ([layer("conv1", INT8), layer("fc", FP32, "MatrixMultiply")], 0.75),
        ([layer("conv1", FP32, "Reformat"), layer("conv1", INT8), layer("fc", FP32, "gemm")], 0.75),
        ([layer("conv1", INT8), layer("conv1", FP32), layer("fc", FP32, "gemm")], None),
        ([layer("conv10", INT8), layer("fc", FP32, "gemm")], None),
        ([layer("conv1", "N/A due to dynamic shapes"), layer("fc", FP32, "gemm")], None),
        (["conv1 + relu1", "fc"], None),
        ([], None),
    ],
)
def test_share_is_told_only_where_every_node_is_found_once(layers: list[Any], share: float | None) -> None:
    assert share_of(layers, MACS) == share


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("quantized", [False, True], ids=["plain", "qdq"])
def test_macs_per_node(tmp_path: Path, quantized: bool, half: bool) -> None:
    model = onnx.load(tiny(tmp_path / "model", quantized=quantized, half=half) / "model.onnx")
    pixels = 16 * 16
    assert macs_per_node(model) == {"conv1": pixels * 16 * 27, "conv2": pixels * 16 * 144, "fc": 160}
    assert _trt.image_shape(model) == [3, 16, 16]


@pytest.mark.parametrize("quantized", [False, True], ids=["plain", "qdq"])
def test_macs_and_precision_of_a_halved_network(tmp_path: Path, quantized: bool) -> None:
    before = onnx.load(tiny(tmp_path / "model", quantized=quantized) / "model.onnx")
    after = halved(before)
    assert macs_per_node(after) == macs_per_node(before) != {}
    assert _trt.precision_of(after) == ("int8" if quantized else "fp16")


def test_share_of_nodes_without_names_is_unknown(tmp_path: Path) -> None:
    model = onnx.load(tiny(tmp_path / "model") / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Gemm").name = ""
    assert share_of([], macs_per_node(model)) is None
