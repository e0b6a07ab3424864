"""Questions about an ONNX graph that several folders need."""

import math
from collections import defaultdict
from collections.abc import Sequence

from onnx import ModelProto, NodeProto, TensorProto


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
