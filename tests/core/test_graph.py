"""What is read off an ONNX graph."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from core.graph import Work, copied, has_float16, is_quantized, macs_of, producers_of, readers_of, work_of
from models.cost import cost


@pytest.mark.parametrize("layer", [
    nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 12, 3, stride=2, groups=3), nn.Conv2d(6, 6, 5, groups=6), nn.Conv2d(6, 4, 1),
], ids=["plain", "strided, in groups", "depthwise", "pointwise"])  # fmt: skip
def test_macs_of_a_convolution_are_what_torch_counts(layer: nn.Conv2d) -> None:
    output = layer(torch.zeros(1, 6, 16, 12)).shape
    assert macs_of(output, layer.weight.shape, output[1]) == cost(layer, (6, 16, 12))["macs"]


def test_macs_of_a_matrix_product_are_the_size_of_its_weight() -> None:
    assert macs_of([1, 10], [10, 64], 10) == macs_of([1, 10], [64, 10], 10) == 640


def test_work_of_a_network_is_that_of_its_layers() -> None:
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 4, 4])
    weight = numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1])]
    network = helper.make_model(helper.make_graph(nodes, "graph", [images], [result], [weight]))
    assert work_of(network) == {"conv": Work(channels=5, macs=4 * 4 * 5 * 27)}
    network.graph.node[0].name = ""
    assert work_of(network) == {}, "a layer without a name cannot be found again"


def graph(constant: np.ndarray, quantized: bool) -> onnx.ModelProto:
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    nodes = [helper.make_node("Add", ["x", "c"], ["sum"], name="add")]
    if quantized:
        nodes += [
            helper.make_node("QuantizeLinear", ["sum", "scale"], ["q"], name="quantize"),
            helper.make_node("DequantizeLinear", ["q", "scale"], ["y"], name="dequantize"),
        ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in ("x", "y" if quantized else "sum")]
    constants = [numpy_helper.from_array(constant, "c"), scale]
    return helper.make_model(helper.make_graph(nodes, "graph", *ends, constants))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_what_a_graph_holds(quantized: bool, half: bool) -> None:
    proto = graph(np.ones(1, np.float16 if half else np.float32), quantized)
    assert (is_quantized(proto), has_float16(proto)) == (quantized, half)


def test_who_reads_and_who_computes_a_tensor() -> None:
    proto = graph(np.ones(1, np.float32), quantized=True)
    readers = {name: [node.name for node in nodes] for name, nodes in readers_of(proto).items()}
    assert readers == {
        "x": ["add"], "c": ["add"], "sum": ["quantize"], "scale": ["quantize", "dequantize"], "q": ["dequantize"],
    }  # fmt: skip
    assert {name: node.name for name, node in producers_of(proto).items()} == {"sum": "add", "q": "quantize", "y": "dequantize"}
    assert readers_of(proto)["y"] == []


def test_a_copy_has_nodes_of_its_own() -> None:
    proto = graph(np.ones(1, np.float32), quantized=False)
    copy = copied(proto)
    copy.graph.node[0].name = "changed"
    assert proto.graph.node[0].name == "add"
