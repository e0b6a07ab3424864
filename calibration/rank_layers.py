"""FP32 ONNX + ranges + training images -> rank_layers.json: the layers that 8 bits hurt most on one target, worst first.

One node at a time is quantized; all others stay in floating point. The opposite, quantizing all nodes but one, finds nothing
where 8 bits break two nodes: the other one still breaks the logits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from pydantic import Field

from calibration.place import LAYERS, edges_to_quantize, network_of, quantize
from calibration.session import divergence, predict_logits
from calibration.weights import name_of
from core.config import Config
from core.graph import copied
from core.placement import Placement
from data.loader import Split, batches


class RankLayers(Config):
    """`images`: the number of held-out images that every layer is tried on; of training images where none are held out."""

    images: int = Field(default=64, gt=0)


class RankLayersOf(RankLayers):
    """The same for one target: the result depends on the bits of its weights and on which inputs of an addition it rounds."""

    placement: Placement


def rank_layers(config: RankLayersOf, out: Path, *, model: Path, ranges: Path, images: Path) -> dict[str, Any]:
    """Write [[node, KL divergence when only it is quantized, in nats per image], …] to `out`/rank_layers.json."""
    proto, limits = network_of(model, ranges, config.placement)
    held_out = Split(images, "val")
    split = held_out if len(held_out) else Split(images, "train")
    feed = [x.numpy() for x, _ in batches(split, 16, shuffle=True, limit=config.images)]
    found = sensitivity(proto, limits, feed, config.placement)
    (out / "rank_layers.json").write_text(json.dumps(list(found.items()), indent=0))
    return {"nodes": len(found), "worst": dict(list(found.items())[:5])}


def sensitivity(
    proto: ModelProto, ranges: Mapping[str, tuple[float, float]], batches: list[np.ndarray], placement: Placement
) -> dict[str, float]:
    """{node: KL divergence from the FP32 logits in nats per image when only this node is quantized}, most sensitive first.

    The nodes are the convolutions, linear layers and residual additions that `placement` quantizes, named as
    `Placement.skip` names them. `batches` are float32 [n, C, H, W]. Costs one session and one pass per node.
    """
    nodes = quantized_nodes(proto, placement)
    expected = predict_logits(proto, batches)

    def alone(name: str) -> float:
        quantized = copied(proto)
        quantize(quantized, ranges, placement.model_copy(update={"skip": everything_but(proto, name)}))
        return divergence(expected, predict_logits(quantized, batches))

    found = {name: alone(name) for name in nodes}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def quantized_nodes(proto: ModelProto, placement: Placement) -> list[str]:
    """The names of the layers and additions that read a quantized tensor, in order."""
    readers = {name_of(node) for edges in edges_to_quantize(proto, placement).values() for node, _ in edges}
    return [name_of(node) for node in proto.graph.node if node.op_type in (*LAYERS, "Add") and name_of(node) in readers]


def everything_but(proto: ModelProto, name: str) -> tuple[str, ...]:
    """The names of all nodes except `name`."""
    return tuple(other for other in map(name_of, proto.graph.node) if other != name)
