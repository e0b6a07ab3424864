"""Weights and biases -> integers with a DequantizeLinear of their own: int8, symmetric, per output channel."""

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from core.placement import Placement


def name_of(node: NodeProto) -> str:
    """The name of `node` in `Placement.skip`, corrections and rankings: its own, or that of its output where it has none."""
    return node.name or node.output[0]


def quantize_weights(
    proto: ModelProto, layers: Iterable[tuple[NodeProto, np.float32]], config: Placement, corrections: Mapping[str, np.ndarray]
) -> None:
    """Replace the weights (and int32 biases) of `layers`, each with the scale of its input.

    `corrections` {layer: [channels]} are subtracted from the biases first.
    """
    initializers = {i.name: i for i in proto.graph.initializer}
    for node, input_scale in layers:
        axis = output_axis(node)
        values, scale = quantize_per_channel(numpy_helper.to_array(initializers[node.input[1]]), axis, largest(config))
        replace_by_dequantized(proto, node, 1, values, scale, axis)
        bias = numpy_helper.to_array(initializers[node.input[2]]) if len(node.input) > 2 else None
        if name_of(node) in corrections:
            bias = (0.0 if bias is None else bias) - corrections[name_of(node)].astype(np.float32)
            # Under a name of its own: layers may share one initializer.
            name = f"{name_of(node)}/corrected_bias"
            proto.graph.initializer.append(numpy_helper.from_array(bias, name))
            node.input[:] = [*node.input[:2], name]
        if config.bias == "int32" and bias is not None:
            bias_scale = scale * input_scale
            limit = np.iinfo(np.int32)
            integers = np.clip(np.round(bias / bias_scale), limit.min, limit.max).astype(np.int32)
            replace_by_dequantized(proto, node, 2, integers, bias_scale, 0)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [i for i in proto.graph.initializer if i.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def largest(config: Placement) -> int:
    """The largest integer that a weight is rounded to."""
    return 64 if config.reduce_range else 127


def output_axis(node: NodeProto) -> int:
    """The axis of the output channels in the weight of `node`."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def quantize_per_channel(weight: np.ndarray, axis: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and float32 scales [channels], such that values * scales is closest to `weight`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    # A channel of zeros has no scale of its own; the tiny floor also keeps bias / scale inside int32.
    amax = np.maximum(np.abs(weight).max(axis=others), np.abs(weight).max() * 1e-6 + 1e-12)
    scale = (amax / largest).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.round(weight / scale.reshape(shape)), -largest, largest).astype(np.int8), scale


def replace_by_dequantized(
    proto: ModelProto, node: NodeProto, position: int, values: np.ndarray, scale: np.ndarray, axis: int
) -> None:
    """Let input `position` of `node` come from a DequantizeLinear of the constant `values`."""
    name = f"{node.input[position]}/{node.output[0]}"
    constants = {"quantized": values, "scale": scale, "zero_point": np.zeros(scale.shape, values.dtype)}
    for key, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, f"{name}/{key}"))
    inputs = [f"{name}/{key}" for key in constants]
    # It reads initializers only, so it may stand before all other nodes.
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [f"{name}/dequantized"], axis=axis))
    node.input[position] = f"{name}/dequantized"
