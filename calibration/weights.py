"""Weights and biases -> integers with a DequantizeLinear of their own: int8, symmetric, per output channel."""

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from core.placement import Placement

TINY = float(np.finfo(np.float32).tiny)  # runtimes may flush smaller scales to zero, and then divide by them
# Half of what int32 holds: the products of a layer are added to its bias in int32, up to 255 x 127 for each weight.
LARGEST_BIAS = 2**30


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
        bias = numpy_helper.to_array(initializers[node.input[2]]) if len(node.input) > 2 else None
        if name_of(node) in corrections:
            bias = (0.0 if bias is None else bias) - corrections[name_of(node)].astype(np.float32)
            # Under a name of its own: layers may share one initializer.
            name = f"{name_of(node)}/corrected_bias"
            proto.graph.initializer.append(numpy_helper.from_array(bias, name))
            node.input[:] = [*node.input[:2], name]
        axis, at_least = output_axis(node), smallest_scale(bias, input_scale)
        weight = numpy_helper.to_array(initializers[node.input[1]])
        values, scale = quantize_per_channel(weight, axis, largest(config), at_least, config.floats)
        replace_by_dequantized(proto, node, 1, values, scale, axis)
        if config.bias == "int32" and bias is not None:
            bias_scale = scale * input_scale
            integers = np.round(bias / bias_scale).astype(np.int32)
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


def quantize_per_channel(
    weight: np.ndarray, axis: int, largest: int, at_least: np.ndarray | float = TINY, floats: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and float32 scales [channels], such that values * scales is closest to `weight`.

    No scale is below `at_least` [channels], and all of them are numbers of the type `floats`.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    amax = np.abs(weight).max(axis=others).astype(np.float64)
    # Every scale represents a channel of zeros; a millionth of the layer's largest is fine enough for its bias.
    amax = np.where(amax > 0, amax, amax.max() * 1e-6 + 1e-12)
    scale = storable(np.maximum(amax / largest, at_least), floats)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.round(weight / scale.reshape(shape)), -largest, largest).astype(np.int8), scale


def smallest_scale(bias: np.ndarray | None, input_scale: np.float32) -> np.ndarray | float:
    """The smallest weight scale [channels] for which `bias` fits into integers, and its scale into float32.

    The scale of a bias is that of the input times that of the weights. Where the weights of a channel vanish and its bias
    does not (batch norm with gamma 0), the scale of the weights alone would make more than 2^31 steps of the bias. That holds
    for biases that stay floats, too: ONNX Runtime makes integers of them when it fuses a layer.
    """
    if bias is None:
        return TINY
    return np.maximum(np.maximum(np.abs(bias.astype(np.float64)) / LARGEST_BIAS, TINY) / np.float64(input_scale), TINY)


def storable(scale: np.ndarray, floats: str) -> np.ndarray:
    """The positive `scale` float64 as float32, rounded up to the next number that `floats` ("float16", "float32") has.

    Integers made with a scale that is rounded afterwards are wrong by as much as it changed: in float16 that is many times
    below 6e-5. A scale beyond float16 stays as it is; the cast to float16 says so.
    """
    if floats == "float32":
        return scale.astype(np.float32)
    with np.errstate(over="ignore"):
        near = scale.astype(np.float16)
        near = np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near)
    return np.where(np.isfinite(near), near, scale).astype(np.float32)


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
