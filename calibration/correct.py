"""Bias correction: the mean error that rounding adds to a layer's output is subtracted from its bias.

After Nagel et al. 2019 (arXiv:1906.04721), section 4.2, the empirical variant. A layer is linear, so the mean error of its
outputs can be computed from the mean of its inputs, rounded and not rounded: one pass, a few numbers per layer. The network
with these corrections is then run, and the mean error that is left in the logits is subtracted from the bias of the last layer.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.place import LAYERS, NEUTRAL, activation_scale, edges_to_quantize, quantize, range_source
from calibration.session import predict_logits
from calibration.weights import largest, name_of, output_axis, quantize_per_channel
from core.graph import copied
from core.ort import open_session
from core.placement import Placement

Ranges = Mapping[str, tuple[float, float]]


def corrections(
    proto: ModelProto, ranges: Ranges, batches: list[np.ndarray], grid: Placement = NEUTRAL
) -> dict[str, np.ndarray]:
    """{layer: float32 [channels]} to subtract from the biases of `proto` when it is quantized as `grid`: NEUTRAL, or the same
    with 7-bit weights.

    `batches` are calibration images, each float32 [n, C, H, W].
    """
    found, mean_logits = local_errors(proto, ranges, batches, grid)
    corrected = copied(proto)
    quantize(corrected, ranges, grid, found)
    last = next((name_of(node) for node in proto.graph.node if node.output[0] == proto.graph.output[0].name), None)
    if last in found:
        found[last] = found[last] + (predict_logits(corrected, batches).mean(axis=0) - mean_logits).astype(np.float32)
    return found


def local_errors(
    proto: ModelProto, ranges: Ranges, batches: list[np.ndarray], grid: Placement = NEUTRAL
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """{layer: [channels]}: the mean error of each layer's output when only its own input and weights are rounded. And the mean
    logits [classes] of `proto`."""
    extended = copied(proto)
    layers = [node for readers in edges_to_quantize(extended, grid).values() for node, _ in readers if node.op_type in LAYERS]
    logits = extended.graph.output[0].name
    del extended.graph.output[1:]
    add_constant(extended, "correct/first", np.array([0], np.int64))
    for tensor in dict.fromkeys(layer.input[0] for layer in layers):
        add_sums(extended, tensor, *activation_scale(*ranges[range_source(proto, tensor)], grid))
    for layer in layers:
        add_error(extended, layer, largest(grid))
    session = open_session(extended)
    totals: list[np.ndarray] = []
    for x in batches:
        rows, *errors = (np.asarray(a, np.float64) for a in session.run(None, {extended.graph.input[0].name: x}))
        parts = [rows.sum(axis=0), *errors]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    assert extended.graph.output[0].name == logits
    mean, *errors = (total / sum(map(len, batches)) for total in totals)
    # [1, channels], for a convolution [1, channels, height, width].
    found = {
        name_of(layer): e.reshape(e.shape[1], -1).mean(axis=1).astype(np.float32)
        for layer, e in zip(layers, errors, strict=True)
    }
    return found, mean


def add_sums(proto: ModelProto, tensor: str, scale: np.float32, zero_point: int) -> None:
    """Compute `tensor`/sum and `tensor`/rounded_sum [1, …], the sums over the images of a batch."""
    parameters = [f"{tensor}/correct_scale", f"{tensor}/correct_zero"]
    add_constant(proto, parameters[0], np.asarray(scale))
    add_constant(proto, parameters[1], np.asarray(zero_point, NEUTRAL.activation))
    proto.graph.node.extend([
        helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}/integers"]),
        helper.make_node("DequantizeLinear", [f"{tensor}/integers", *parameters], [f"{tensor}/rounded"]),
        helper.make_node("ReduceSum", [tensor, "correct/first"], [f"{tensor}/sum"], keepdims=1),
        helper.make_node("ReduceSum", [f"{tensor}/rounded", "correct/first"], [f"{tensor}/rounded_sum"], keepdims=1),
    ])  # fmt: skip


def add_error(proto: ModelProto, layer: NodeProto, most: int) -> None:
    """Add an output [1, channels, …], the error of `layer` without its bias, summed over the images of a batch.

    It is the layer with weights rounded to integers up to `most` of the summed rounded inputs, minus the layer as it is of the
    summed inputs.
    """
    weight = numpy_helper.to_array(next(i for i in proto.graph.initializer if i.name == layer.input[1]))
    axis = output_axis(layer)
    integers, scale = quantize_per_channel(weight, axis, most)
    rounded = integers * np.expand_dims(scale, [i for i in range(weight.ndim) if i != axis])
    name, source = f"{layer.output[0]}/correct", layer.input[0]
    add_constant(proto, f"{name}_weight", rounded.astype(np.float32))
    for kind, inputs in (
        ("exact", [f"{source}/sum", layer.input[1]]),
        ("rounded", [f"{source}/rounded_sum", f"{name}_weight"]),
    ):
        copy = NodeProto()
        copy.CopyFrom(layer)
        copy.name = ""
        copy.input[:], copy.output[:] = inputs, [f"{name}_{kind}"]
        proto.graph.node.append(copy)
    proto.graph.node.append(helper.make_node("Sub", [f"{name}_rounded", f"{name}_exact"], [f"{name}_error"]))
    proto.graph.output.append(helper.make_tensor_value_info(f"{name}_error", TensorProto.FLOAT, None))


def add_constant(proto: ModelProto, name: str, values: np.ndarray) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
