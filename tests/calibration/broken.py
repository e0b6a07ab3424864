"""A network that INT8 breaks and FP32 does not notice."""

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from calibration.weights import name_of


def breakable(proto: ModelProto) -> list[tuple[NodeProto, NodeProto]]:
    """The pairs of convolutions with nothing but a ReLU between them that has no other reader."""
    readers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    pairs = []
    for node in proto.graph.node:
        between = readers.get(node.output[0], [])
        if node.op_type == "Conv" and [n.op_type for n in between] == ["Relu"]:
            following = readers[between[0].output[0]]
            if [n.op_type for n in following] == ["Conv"]:
                pairs.append((node, following[0]))
    return pairs


def break_between(proto: ModelProto, first: NodeProto, second: NodeProto, factor: float = 1000.0) -> str:
    """Scale every fourth output channel of `first` by `factor` and undo it in the weights of `second`; returns its name.

    In INT8 the large channels take the whole range of what is between the two, and their weights in `second` round to zero.
    """
    initializers = {i.name: i for i in proto.graph.initializer}
    kernel, bias, following = (initializers[name] for name in (*first.input[1:], second.input[1]))
    scale = np.ones(kernel.dims[0], np.float32)
    scale[::4] = factor
    for tensor, by in ((kernel, scale[:, None, None, None]), (bias, scale), (following, 1 / scale[None, :, None, None])):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * by, tensor.name))
    return name_of(second)
