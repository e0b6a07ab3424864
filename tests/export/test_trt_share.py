"""How much of an engine's work is INT8, from what the inspector says and from the ONNX file it was built of."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from core.graph import macs_per_node
from export.device.trt_build import int8_share, layers_of, share_of
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


# What the inspector prints in three generations, in the published shapes: NVIDIA's engine explorer (8.4), the developer guides
# of 10 and 11. A stem, a residual block whose Add is in the kernel of its second convolution, and the classifier in float16.
EIGHT = """{"Layers": [
 {"Name": "QuantizeLinear_2", "LayerType": "Reformat", "ParameterType": "Reformat", "Origin": "QDQ", "TacticValue": "0x0",
  "Inputs": [{"Name": "input", "Location": "Device", "Dimensions": [1,3,32,32], "Format/Datatype": "Row major linear FP32"}],
  "Outputs": [{"Name": "q", "Location": "Device", "Dimensions": [1,3,32,32],
               "Format/Datatype": "Four wide channel vectorized row major Int8 format"}]},
 {"Name": "stem.weight + QuantizeLinear_7 + stem + relu", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
  "Inputs": [{"Name": "q", "Location": "Device", "Dimensions": [1,3,32,32],
              "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
  "Weights": {"Type": "Int8", "Count": 432}, "Activation": "RELU", "HasReLU": 1, "TacticName": "sm80_fprop_i8i8_i8i32_f32"},
 {"Name": "block.weight + QuantizeLinear_12 + block + Add_15 + Relu_16", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"},
             {"Name": "a", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "ParameterType": "Convolution", "TacticName": "sm80_fprop_i8i8_i8i32_f32_residual"},
 {"Name": "Reformatting CopyNode for Input Tensor 0 to fc", "LayerType": "Reformat", "ParameterType": "Reformat",
  "Inputs": [{"Name": "p", "Format/Datatype": "Row major linear FP32"}]},
 {"Name": "fc", "LayerType": "MatrixMultiply", "ParameterType": "MatrixMultiply",
  "Inputs": [{"Name": "p", "Format/Datatype": "Row major linear FP16 format"}]}],
 "Bindings": ["input", "logits"]}"""
TEN = """{"Layers": [
 {"Name": "Reformatting CopyNode for Input Tensor 0 to stem", "LayerType": "Reformat", "TacticValue": "0x3e8", "StreamId": 0,
  "Inputs": [{"Name": "input", "Location": "Device", "Dimensions": [1,3,32,32], "Format/Datatype": "Float"}], "Metadata": ""},
 {"Name": "stem.weight + QuantizeLinear_7 + stem + relu", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
  "Inputs": [{"Name": "q", "Location": "Device", "Dimensions": [1,3,32,32], "Format/Datatype": "Int8"}],
  "TacticName": "sm80_fprop_i8i8", "Metadata": "[ONNX Layer: stem]\x1e[ONNX Layer: relu]"},
 {"Name": "block + Add + Relu", "LayerType": "CaskConvolution", "TacticName": "sm80_fprop_i8i8_residual",
  "Inputs": [{"Name": "a", "Format/Datatype": "Int8"}, {"Name": "a", "Format/Datatype": "Int8"}],
  "Metadata": "[ONNX Layer: block]\x1f[ONNX Layer: Add]\x1f[ONNX Layer: Relu]"},
 {"Name": "fc_myl0_1", "LayerType": "gemm", "Inputs": [{"Name": "p", "Format/Datatype": "Half"}],
  "TacticName": "sm80_xmma_gemm_f16f16", "Metadata": "[ONNX Layer: fc]"}],
 "Bindings": ["input", "logits"]}"""
ELEVEN = """{"Layers": [
 {"Name": "stem + relu", "LayerType": "CaskConvolution", "ParameterType": "Convolution", "TacticName": "sm80_fprop_i8i8",
  "Inputs": [{"Name": "q", "Dimensions": [1,3,32,32], "Format": "Channel major (kCHW4)", "Datatype": "Int8"}],
  "Metadata": "[ONNX Layer: stem]\\u001e[ONNX Layer: relu]"},
 {"Name": "block + Add + Relu", "LayerType": "CaskConvolution", "TacticName": "sm80_fprop_i8i8_residual",
  "Inputs": [{"Name": "a", "Format": "kCHW32", "Datatype": "Int8"}, {"Name": "a", "Format": "kCHW32", "Datatype": "Int8"}],
  "Metadata": "[ONNX Layer: block]\\u001f[ONNX Layer: Add]\\u001f[ONNX Layer: Relu]"},
 {"Name": "fc_myl0_1", "LayerType": "gemm", "Inputs": [{"Name": "p", "Format": "kLINEAR", "Datatype": "Half"}],
  "TacticName": "sm80_xmma_gemm_f16f16", "Metadata": "[ONNX Layer: fc]"}],
 "I/O Tensors": [{"Name": "input", "IOMode": "Input", "DataType": "Float", "Dimensions": [1,3,32,32], "Location": "Device"}]}"""


@pytest.mark.parametrize("text", [EIGHT, TEN, ELEVEN], ids=["8", "10", "11"])
def test_the_share_is_read_in_every_generation(text: str) -> None:
    assert share_of(layers_of(text), {"stem": 200, "block": 700, "fc": 100}) == 0.9
    assert share_of(layers_of(text.replace("Int8", "Float")), {"stem": 200, "block": 700, "fc": 100}) == 0.0
    assert share_of(layers_of(text), {"stem": 200, "bloc": 700, "fc": 100}) is None


class Engine:
    """An engine whose output comes before its input, with an inspector that prints `text`."""

    num_io_tensors = 2

    def __init__(self, text: str) -> None:
        self.text = text

    def get_tensor_name(self, index: int) -> str:
        return ("logits", "input")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "IN" if name == "input" else "OUT"

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda kind: self.text)


@pytest.mark.parametrize(("text", "share"), [(TEN, 0.9), ("", None), ("[]", None), ('{"Layers": [{"Inputs": "?"}]}', None)])
def test_the_shape_is_that_of_the_input_and_what_cannot_be_read_is_unknown(text: str, share: float | None) -> None:
    trt = SimpleNamespace(TensorIOMode=SimpleNamespace(INPUT="IN"), LayerInformationFormat=SimpleNamespace(JSON="JSON"))
    shapes: dict[str, tuple[int, ...]] = {}
    context = SimpleNamespace(set_input_shape=lambda name, shape: shapes.update({name: shape}))
    engine: Any = Engine(text)
    assert int8_share(trt, engine, context, [1, 3, 32, 32], {"stem": 200, "block": 700, "fc": 100}) == share  # type: ignore[arg-type]
    assert shapes == {"input": (1, 3, 32, 32)}


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
