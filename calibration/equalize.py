"""Cross-layer equalization: the channels between two convolutions get similar ranges; the network computes the same function.

Nagel et al. 2019 (arXiv:1906.04721), section 4.1: where nothing but a ReLU lies between two convolutions, channel c of the
first may be divided by any s_c > 0 if the weights that read it are multiplied by s_c, because relu(x / s) = relu(x) / s.

    s_c = sqrt(a_c / w_c)    a_c  largest magnitude seen in channel c of the tensor between the two
                             w_c  largest |weight| that reads channel c, as a share of the largest of its output channel

The paper equalizes r1_c and r2_c, the ranges of the weights of both layers, because it rounds weights per tensor:
s_c = sqrt(r1_c / r2_c). Our weights have one scale per output channel. This scale absorbs r1_c, and it is the reason why w_c is
relative. The activation has one scale for all channels, so a_c takes the place of r1_c, as in SmoothQuant (Xiao et al. 2023,
arXiv:2211.10438, alpha 0.5). After equalization both a_c and w_c are proportional to sqrt(a_c w_c): the activation and the
weights share the spread. Because w_c is relative, consecutive pairs hardly affect each other, so nothing is iterated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.weights import name_of
from core.graph import copied, readers_of
from core.ort import open_session

EQUALIZATION = "equalization.safetensors"  # beside ranges.json, where it helps: {first layer of a pair: float32 [channels]}
# A channel below this share of the largest one counts as this share: where it was zero so far, the next image may change that.
FLOOR = 1e-4


@dataclass(frozen=True)
class Pair:
    """Two convolutions, and the tensor [N, C, H, W] `between` them, which only `second` reads.

    It is the output of `first`, or of a ReLU after it.
    """

    first: NodeProto
    between: str
    second: NodeProto


def pairs_of(proto: ModelProto) -> list[Pair]:
    """The pairs of `proto` that can be equalized, in order.

    Between the two convolutions is a ReLU or nothing: a Clip (ReLU6) cuts at a fixed value. Both may have groups. A pair is
    left out when another node reads the tensor between, or one of the constants that would change.
    """
    readers = readers_of(proto)
    for output in proto.graph.output:
        readers[output.name].append(NodeProto())  # the caller reads it
    constants = {i.name for i in proto.graph.initializer}

    def own(names: Iterable[str]) -> bool:
        return all(name in constants and len(readers[name]) == 1 for name in names)

    found = []
    for first in proto.graph.node:
        between, following = first.output[0], readers[first.output[0]]
        if [node.op_type for node in following] == ["Relu"]:
            between, following = following[0].output[0], readers[following[0].output[0]]
        if first.op_type == "Conv" and [node.op_type for node in following] == ["Conv"]:
            second = following[0]
            if second.input[0] == between and own([*first.input[1:], second.input[1]]):
                found.append(Pair(first, between, second))
    return found


def scales_for(proto: ModelProto, peaks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{first layer: s float32 [channels]} of every pair, from the largest magnitudes `peaks` {tensor between: [channels]}.

    The largest value of each tensor does not change: a factor for all channels would only change the scale of the integers.
    """
    weights = {i.name: i for i in proto.graph.initializer}
    found = {}
    for pair in pairs_of(proto):
        peak = peaks[pair.between].astype(np.float64)
        if 0 < peak.max() < np.inf:  # observing the ranges refuses what is not finite, and names it
            a = np.maximum(peak, FLOOR * peak.max())
            scale = np.sqrt(
                a / relative(by_input(numpy_helper.to_array(weights[pair.second.input[1]]), groups_of(pair.second)))
            )
            found[name_of(pair.first)] = (scale * (a / scale).max() / a.max()).astype(np.float32)
    return found


def relative(weight: np.ndarray) -> np.ndarray:
    """w [channels] of `weight` [groups, outputs, inputs, …], at least FLOOR."""
    magnitude = np.abs(weight).reshape(*weight.shape[:3], -1).max(axis=3).astype(np.float64)
    rows = magnitude.max(axis=2, keepdims=True)
    share = np.divide(magnitude, rows, out=np.zeros_like(magnitude), where=rows > 0)
    return np.asarray(np.maximum(share.max(axis=1).ravel(), FLOOR))


def groups_of(conv: NodeProto) -> int:
    return next((int(a.i) for a in conv.attribute if a.name == "group"), 1)


def by_input(weight: np.ndarray, groups: int) -> np.ndarray:
    """[outputs, inputs / groups, …] as [groups, outputs / groups, inputs / groups, …]: axes 0 and 2 are the input channels."""
    return weight.reshape(groups, -1, *weight.shape[1:])


def equalize(proto: ModelProto, scales: Mapping[str, np.ndarray]) -> None:
    """Scale the weights and biases of the pairs whose first layer is in `scales`, in place."""
    constants = {i.name: i for i in proto.graph.initializer}

    def put(name: str, values: np.ndarray) -> None:
        constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    for pair in pairs_of(proto):
        if (scale := scales.get(name_of(pair.first))) is None:
            continue
        for name in pair.first.input[1:]:  # weight [channels, …] and, where there is one, bias [channels]
            values = numpy_helper.to_array(constants[name])
            put(name, values / scale.reshape(-1, *[1] * (values.ndim - 1)))
        name = pair.second.input[1]
        values = numpy_helper.to_array(constants[name])
        groups = groups_of(pair.second)
        factors = scale.reshape(groups, 1, -1, *[1] * (values.ndim - 2))
        put(name, (by_input(values, groups) * factors).reshape(values.shape))


def peaks_of(proto: ModelProto, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """{tensor between a pair: [channels]}, the largest magnitudes on `batches`, each float32 [n, C, H, W]."""
    extended = copied(proto)
    tensors = [pair.between for pair in pairs_of(proto)]
    del extended.graph.output[:]
    for name in tensors:
        extended.graph.node.append(helper.make_node("Abs", [name], [f"{name}/magnitude"]))
        extended.graph.node.append(helper.make_node("GlobalMaxPool", [f"{name}/magnitude"], [f"{name}/peaks"]))
        extended.graph.output.append(helper.make_tensor_value_info(f"{name}/peaks", TensorProto.FLOAT, None))
    session, image = open_session(extended), proto.graph.input[0].name
    seen = (session.run(None, {image: x}) for x in batches)
    largest = [[np.asarray(peak).max(axis=0).ravel() for peak in peaks] for peaks in seen]
    return {name: np.max(found, axis=0) for name, found in zip(tensors, zip(*largest, strict=True), strict=True)}


def with_equalized(proto: ModelProto, scales: Mapping[str, np.ndarray]) -> tuple[ModelProto, dict[str, str]]:
    """A copy of `proto` that also computes the tensors between pairs as the equalized network has them; and their names there,
    {tensor: name}."""
    extended = copied(proto)
    names = {}
    for pair in pairs_of(proto):
        if (scale := scales.get(name_of(pair.first))) is not None:
            names[pair.between] = name = f"{pair.between}/equalized"
            factors = (1 / scale).reshape(1, -1, 1, 1)
            extended.graph.initializer.append(numpy_helper.from_array(factors, f"{name}/factors"))
            extended.graph.node.append(helper.make_node("Mul", [pair.between, f"{name}/factors"], [name]))
    return extended, names
