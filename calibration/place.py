"""FP32 ONNX + ranges -> Q/DQ ONNX (model.onnx), placed as one runtime wants it.

Affine quantization, q = clip(round(x / scale) + zero_point) (Jacob et al. 2018, arXiv:1712.05877); weights int8,
symmetric, per output channel.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from safetensors.numpy import load_file

from calibration.equalize import EQUALIZATION, equalize
from calibration.ranges import SMALLEST, step_of
from calibration.weights import name_of, quantize_weights, storable
from core.graph import producers_of, readers_of
from core.placement import Placement

Edge = tuple[NodeProto, int]  # a node and which of its inputs
LAYERS = ("Conv", "Gemm")
SAME_VALUES = ("MaxPool", "Reshape", "Flatten", "Split", "Slice", "Pad")  # what comes out went in, or is zero
AVERAGES = ("ReduceMean", "GlobalAveragePool")
AS_INTEGERS = (*SAME_VALUES, *AVERAGES, "AveragePool")
# beside ranges.json, where they help: by whether weights have 7 bits
CORRECTIONS = {False: "corrections.safetensors", True: "corrections-7-bits.safetensors"}
SYMMETRIC = "symmetric.json"  # beside ranges.json, where other ranges are better for symmetric activations
# The placement that ranges and corrections are chosen with, where weights have 8 bits: the integers of the CPU runtimes.
NEUTRAL = Placement(activation="uint8", symmetric=False, bias="int32", residual="all", pool=True)
LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def place_qdq(config: Placement, out: Path, *, model: Path, ranges: Path) -> dict[str, Any]:
    """Write the quantized `model` to `out`/model.onnx."""
    proto, limits = network_of(model, ranges, config)
    file = ranges / CORRECTIONS[config.reduce_range]
    corrections = load_file(file) if file.exists() and same_grid(config) else {}
    metrics = quantize(proto, limits, config, corrections)
    onnx.checker.check_model(proto)
    onnx.save(proto, out / "model.onnx")
    return metrics


def network_of(model: Path, ranges: Path, config: Placement) -> tuple[ModelProto, dict[str, tuple[float, float]]]:
    """The float network of these `ranges`: `model`, equalized where that helped. And the ranges {tensor: (low, high)} for the
    grid of `config`."""
    proto = onnx.load(model / "model.onnx")
    file = ranges / EQUALIZATION
    if file.exists():
        equalize(proto, load_file(file))
    symmetric = ranges / SYMMETRIC
    file = symmetric if config.symmetric and symmetric.exists() else ranges / "ranges.json"
    return proto, {name: (low, high) for name, (low, high) in json.loads(file.read_text()).items()}


def same_grid(config: Placement) -> bool:
    """Whether `config` rounds to the same numbers as NEUTRAL with as many bits: only then are the corrections valid."""
    # The correction of the classifier includes the errors of the skipped layers.
    return config.symmetric == NEUTRAL.symmetric and not config.skip


def quantize(
    proto: ModelProto,
    limits: Mapping[str, tuple[float, float]],
    config: Placement,
    corrections: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Quantize `proto` in place; returns the number of quantized layers and of quantized activation tensors.

    `limits` are the ranges {tensor: (low, high)}; `corrections` {layer: [channels]} are subtracted from the biases.
    """
    edges = edges_to_quantize(proto, config)
    scales = {}
    for name in edges:
        low, high = limits[range_source(proto, name)]
        scales[name] = activation_scale(low, high, config)
    layers = [(node, scales[name][0]) for name, readers in edges.items() for node, _ in readers if node.op_type in LAYERS]
    quantize_weights(proto, layers, config, corrections or {})
    insert_activations(proto, edges, scales, config)
    return {"layers": len(layers), "activations": len(edges)}


def edges_to_quantize(proto: ModelProto, config: Placement) -> dict[str, list[Edge]]:
    """{activation tensor: the node inputs that read its quantized version}."""
    producers, readers = producers_of(proto), readers_of(proto)
    weights = {i.name for i in proto.graph.initializer}
    weights |= {name for node in proto.graph.node if node.op_type == "Constant" for name in node.output}
    constants = with_computed(weights, proto)
    edges: dict[str, list[Edge]] = defaultdict(list)
    skip = with_integer_producers(frozenset(config.skip), proto, readers)
    layers = LAYERS if config.classifier else ("Conv",)
    integers = AS_INTEGERS if config.pool else AVERAGES if config.average else ()

    for node in proto.graph.node:
        if name_of(node) in skip:
            continue
        if node.op_type in layers and node.input[1] in weights:
            edges[node.input[0]].append((node, 0))
        elif node.op_type == "Add" and not constants & set(node.input):
            if config.residual == "all":
                for i, name in enumerate(node.input):
                    edges[name].append((node, i))
            else:
                i = shortcut_input(node, producers, readers)
                edges[node.input[i]].append((node, i))
        elif node.op_type in integers and node.input[0] not in constants:
            edges[node.input[0]].append((node, 0))
        elif config.pool and node.op_type == "Concat" and not constants & set(node.input):
            for i, name in enumerate(node.input):
                edges[name].append((node, i))
    return dict(edges)


def with_computed(constants: set[str], proto: ModelProto) -> set[str]:
    """`constants`, and the tensors that are computed from them alone: torchscript computes the widths of a Pad in the graph."""
    known = constants | {""}  # an optional input that is left out
    for node in proto.graph.node:
        if known.issuperset(node.input):
            known |= set(node.output)
    return known


def with_integer_producers(skip: frozenset[str], proto: ModelProto, readers: dict[str, list[NodeProto]]) -> frozenset[str]:
    """`skip`, and the nodes that only pass integers on to them: they would round the inputs of a skipped node."""
    for node in reversed(proto.graph.node):
        following = {name_of(reader) for name in node.output for reader in readers[name]}
        if node.op_type in (*AS_INTEGERS, "Concat") and following and following <= skip:
            skip |= {name_of(node)}
    return skip


def shortcut_input(add: NodeProto, producers: dict[str, NodeProto], readers: dict[str, list[NodeProto]]) -> int:
    """Which input of a residual Add is the shortcut: the one with fewer layers, or else nodes, between it and the fork."""

    def distance(name: str) -> tuple[int, int]:
        layers = steps = 0
        while len(readers[name]) == 1 and name in producers:
            node = producers[name]
            name, layers, steps = node.input[0], layers + (node.op_type in LAYERS), steps + 1
        return layers, steps

    return 0 if distance(add.input[0]) < distance(add.input[1]) else 1


def range_source(proto: ModelProto, name: str) -> str:
    """The tensor whose range `name` has to share: maxima, slices, zeros around it and reshapes do not rescale integers."""
    producers = producers_of(proto)
    while name in producers and producers[name].op_type in SAME_VALUES:
        name = producers[name].input[0]
    return name


def activation_scale(low: float, high: float, config: Placement) -> tuple[np.float32, int]:
    """(scale, zero_point) of a tensor with values in [low, high]; zero is always represented exactly.

    The scale is a number of the type `config.floats`, and not below 2^SMALLEST: such values count as zero.
    """
    smallest, largest = LIMITS[config.activation]
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return np.float32(1.0), 0
    step = step_of(low, high, config.symmetric)
    scale = np.float32(storable(np.asarray(max(step, 2.0**SMALLEST)), config.floats))
    if config.symmetric:
        return scale, 0 if config.activation == "int8" else 128
    return scale, int(np.clip(np.round(smallest - low / scale), smallest, largest))


def insert_activations(
    proto: ModelProto, edges: dict[str, list[Edge]], scales: dict[str, tuple[np.float32, int]], config: Placement
) -> None:
    """Insert one QuantizeLinear -> DequantizeLinear pair after each tensor, and let its `edges` read from the pair."""
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
