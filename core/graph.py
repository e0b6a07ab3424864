"""Questions about an ONNX graph that several folders need."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from onnx import ModelProto, NodeProto, TensorProto, shape_inference

WORK = ("Conv", "Gemm", "MatMul")  # the operators that multiply and accumulate


def copied(proto: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(proto)
    return copy


def readers_of(proto: ModelProto) -> dict[str, list[NodeProto]]:
    """{tensor: the nodes that read it}, in order; no nodes for a tensor that none reads."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def producers_of(proto: ModelProto) -> dict[str, NodeProto]:
    """{tensor: the node that computes it}; without inputs and constants."""
    return {name: node for node in proto.graph.node for name in node.output}


def is_quantized(proto: ModelProto) -> bool:
    """Whether the graph has Q/DQ nodes."""
    return any(node.op_type == "QuantizeLinear" for node in proto.graph.node)


def has_float16(proto: ModelProto) -> bool:
    """Whether a constant of the graph is float16."""
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in proto.graph.initializer)


def macs_of(output: Sequence[int], weight: Sequence[int], channels: int) -> int:
    """Multiply-accumulates of one convolution or matrix product, from the shapes of its output and its weight.

    The weight has one filter for each of the `channels` of the output, and each value of the output costs one filter.
    """
    return math.prod(output) * math.prod(weight) // channels


class Work(NamedTuple):
    """A convolution or matrix product: the channels of its output, and its multiply-accumulates for one image."""

    channels: int
    macs: int


def work_of(graph: ModelProto) -> dict[str, Work]:
    """{node: its work} of each convolution and matrix product, in order; empty if nodes do not have different names."""
    inferred = shape_inference.infer_shapes(graph).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.value_info, *inferred.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    nodes = [node for node in inferred.node if node.op_type in WORK]
    found = {}
    for node in nodes:
        _, *output = shapes[node.output[0]]
        found[node.name] = Work(output[0], macs_of(output, shapes[node.input[1]], output[0]))
    return found if len(found) == len(nodes) and "" not in found else {}


def macs_per_node(graph: ModelProto) -> dict[str, int]:
    """{node: multiply-accumulates for one image} of `work_of`."""
    return {name: work.macs for name, work in work_of(graph).items()}
