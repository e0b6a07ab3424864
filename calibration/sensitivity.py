"""How much the answers suffer from each layer's rounding: what to leave in floating point first where INT8 breaks a network.

One node at a time is quantized and everything else left alone. The other way round, all but one, finds nothing where two nodes
are broken: either of them still breaks the answers.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto

from calibration.answers import answers, divergence
from calibration.correct import copied
from calibration.place import LAYERS, edges_to_quantize, quantize
from calibration.weights import name_of
from pipeline.placement import Placement


def sensitivity(
    proto: ModelProto, ranges: Mapping[str, tuple[float, float]], batches: list[np.ndarray], placement: Placement
) -> dict[str, float]:
    """{node: KL divergence from the FP32 logits in nats per image when only this node is quantized}, most sensitive first.

    The nodes are the convolutions, linear layers and residual additions that `placement` quantizes, named as
    `Placement.skip` names them. `batches` are float32 [n, C, H, W]. Costs one session and one pass per node.
    """
    nodes = quantized_nodes(proto, placement)
    expected = answers(proto, batches)

    def alone(name: str) -> float:
        quantized = copied(proto)
        quantize(quantized, ranges, placement.model_copy(update={"skip": everything_but(proto, name)}))
        return divergence(expected, answers(quantized, batches))

    found = {name: alone(name) for name in nodes}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def quantized_nodes(proto: ModelProto, placement: Placement) -> list[str]:
    """The layers and additions that read something quantized, in order."""
    readers = {name_of(node) for edges in edges_to_quantize(proto, placement).values() for node, _ in edges}
    return [name_of(node) for node in proto.graph.node if node.op_type in (*LAYERS, "Add") and name_of(node) in readers]


def everything_but(proto: ModelProto, name: str) -> tuple[str, ...]:
    """The names of all other nodes."""
    return tuple(other for other in map(name_of, proto.graph.node) if other != name)
