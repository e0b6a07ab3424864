"""FP32 ONNX + ranges -> Q/DQ ONNX (model.onnx), placed as one runtime wants it.

Affine quantization, q = clip(round(x / scale) + zero_point) (Jacob et al. 2018, arXiv:1712.05877); weights int8,
symmetric, per output channel.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from pipeline.placement import Placement

Edge = tuple[NodeProto, int]  # a node and which of its inputs
AS_INTEGERS = ("MaxPool", "ReduceMean", "GlobalAveragePool", "AveragePool", "Split", "Reshape", "Flatten")
LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def place_qdq(config: Placement, out: Path, *, model: Path, ranges: Path) -> dict[str, Any]:
    """Write the quantized twin of `model` to `out/model.onnx`."""
    proto = onnx.load(model / "model.onnx")
    limits = {name: (low, high) for name, (low, high) in json.loads((ranges / "ranges.json").read_text()).items()}
    edges = edges_to_quantize(proto, config)
    scales = {}
    for name in edges:
        low, high = limits[range_source(proto, name)]
        scales[name] = activation_scale(low, high, config)
    quantized = quantize_weights(proto, scales, edges, config)
    insert_activations(proto, edges, scales, config)
    onnx.checker.check_model(proto)
    onnx.save(proto, out / "model.onnx")
    return {"layers": quantized, "activations": len(edges)}


def edges_to_quantize(proto: ModelProto, config: Placement) -> dict[str, list[Edge]]:
    """Per activation tensor, the node inputs that read its quantized version."""
    producers = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in node.input:
            readers[name].append(node)
    weights = {i.name for i in proto.graph.initializer}
    weights |= {name for node in proto.graph.node if node.op_type == "Constant" for name in node.output}
    edges: dict[str, list[Edge]] = defaultdict(list)

    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[1] in weights:
            edges[node.input[0]].append((node, 0))
        elif node.op_type == "Add" and not weights & set(node.input):
            if config.residual == "all":
                for i, name in enumerate(node.input):
                    edges[name].append((node, i))
            else:
                i = shortcut_input(node, producers, readers)
                edges[node.input[i]].append((node, i))
        elif config.pool and node.op_type in AS_INTEGERS and node.input[0] not in weights:
            edges[node.input[0]].append((node, 0))
        elif config.pool and node.op_type == "Concat" and not weights & set(node.input):
            for i, name in enumerate(node.input):
                edges[name].append((node, i))
    return dict(edges)


def shortcut_input(add: NodeProto, producers: dict[str, NodeProto], readers: dict[str, list[NodeProto]]) -> int:
    """Which input of a residual Add is the shortcut: the one with fewer nodes between it and the fork."""

    def distance(name: str) -> int:
        steps = 0
        while len(readers[name]) == 1 and name in producers:
            name, steps = producers[name].input[0], steps + 1
        return steps

    return 0 if distance(add.input[0]) < distance(add.input[1]) else 1


def range_source(proto: ModelProto, name: str) -> str:
    """The tensor whose range `name` has to share: maxima, splits and reshapes compute on the integers as they are."""
    producers = {output: node for node in proto.graph.node for output in node.output}
    while name in producers and producers[name].op_type in ("MaxPool", "Reshape", "Flatten", "Split"):
        name = producers[name].input[0]
    return name


def activation_scale(low: float, high: float, config: Placement) -> tuple[np.float32, int]:
    """(scale, zero_point) of a tensor with values in [low, high]; zero is always represented exactly."""
    smallest, largest = LIMITS[config.activation]
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return np.float32(1.0), 0
    if config.symmetric:
        middle = 0 if config.activation == "int8" else 128
        return np.float32(max(-low, high) / 127), middle
    scale = np.float32((high - low) / (largest - smallest))
    return scale, int(np.clip(np.round(smallest - low / scale), smallest, largest))


def quantize_weights(
    proto: ModelProto, scales: dict[str, tuple[np.float32, int]], edges: dict[str, list[Edge]], config: Placement
) -> int:
    """Replace the weights (and int32 biases) of every layer with a quantized input; returns how many layers that is."""
    initializers = {i.name: i for i in proto.graph.initializer}
    count = 0
    for tensor, readers in edges.items():
        for node, _ in readers:
            if node.op_type not in ("Conv", "Gemm"):
                continue
            count += 1
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else 1
            weight = numpy_helper.to_array(initializers[node.input[1]])
            values, scale = quantize_per_channel(weight, axis, 64 if config.reduce_range else 127)
            replace_by_dequantized(proto, node, 1, values, scale, axis)
            if config.bias == "int32" and len(node.input) > 2:
                bias = numpy_helper.to_array(initializers[node.input[2]])
                bias_scale = scale * scales[tensor][0]
                limit = np.iinfo(np.int32)
                integers = np.clip(np.round(bias / bias_scale), limit.min, limit.max).astype(np.int32)
                replace_by_dequantized(proto, node, 2, integers, bias_scale, 0)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [i for i in proto.graph.initializer if i.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return count


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
    # Initializers only: it may stand before everything else.
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [f"{name}/dequantized"], axis=axis))
    node.input[position] = f"{name}/dequantized"


def insert_activations(
    proto: ModelProto, edges: dict[str, list[Edge]], scales: dict[str, tuple[np.float32, int]], config: Placement
) -> None:
    """Put one QuantizeLinear -> DequantizeLinear pair behind each tensor and let its `edges` read from it."""
    pairs = {}
    for tensor, readers in edges.items():
        scale, zero_point = scales[tensor]
        for key, array in (("scale", np.asarray(scale)), ("zero_point", np.asarray(zero_point, config.activation))):
            proto.graph.initializer.append(numpy_helper.from_array(array, f"{tensor}/{key}"))
        parameters = [f"{tensor}/scale", f"{tensor}/zero_point"]
        pairs[tensor] = (
            helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}/q"], name=f"{tensor}/Q"),
            helper.make_node("DequantizeLinear", [f"{tensor}/q", *parameters], [f"{tensor}/dq"], name=f"{tensor}/DQ"),
        )
        for node, position in readers:
            node.input[position] = f"{tensor}/dq"
    ordered = [n for i in proto.graph.input for n in pairs.get(i.name, ())]
    for node in proto.graph.node:
        ordered += [node, *(n for name in node.output for n in pairs.get(name, ()))]
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
