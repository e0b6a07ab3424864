"""FP32 ONNX + training images -> ranges.json: the range of every activation tensor.

Streaming: the graph itself reduces every tensor to its minimum and maximum, and a second pass adds up histograms batch by
batch, so memory does not grow with the number of images.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from pydantic import Field

from calibration.ranges import Method, select
from data.loader import Split, batches
from pipeline.config import Config

BINS = 2048


class Calibrate(Config):
    """`images` training images, taken evenly over the split; `percentile` is used by the method of that name."""

    method: Method = "percentile"
    percentile: float = 99.99
    images: int = Field(default=512, gt=0)
    batch_size: int = Field(default=16, gt=0)


def observe(config: Calibrate, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Write {tensor: [low, high]} for every float activation of `model` to `out/ranges.json`."""
    proto = onnx.load(model / "model.onnx")
    tensors = activations(proto)
    split = Split(images, "train")

    def feed() -> Iterator[np.ndarray]:
        for x, _ in batches(split, config.batch_size, shuffle=True, limit=config.images):
            yield x.numpy()

    limits = extremes(proto, tensors, feed())
    if config.method == "max":
        ranges = limits
    else:
        counted = histograms(proto, limits, feed())
        ranges = {
            name: select(counted[name], *limits[name], method=config.method, percentile=config.percentile) for name in tensors
        }
    (out / "ranges.json").write_text(json.dumps(ranges, indent=0))
    return {"method": config.method, "images": min(config.images, len(split)), "tensors": len(ranges)}


def activations(proto: onnx.ModelProto) -> list[str]:
    """The graph input and every float tensor that a node makes of it, in order."""
    shapes = onnx.shape_inference.infer_shapes(proto).graph
    floats = {v.name for v in shapes.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {v.name for v in [*shapes.input, *shapes.output]}
    reached = {proto.graph.input[0].name}
    for node in proto.graph.node:
        if reached & set(node.input):
            reached |= {name for name in node.output if name in floats}
    return [proto.graph.input[0].name] + [
        name for node in proto.graph.node for name in node.output if name in reached and name in floats
    ]


def session_with(proto: onnx.ModelProto, outputs: list[str], nodes: list[onnx.NodeProto]) -> ort.InferenceSession:
    """A session over `proto` with `nodes` added and `outputs` in place of its own."""
    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    extended.graph.node.extend(nodes)
    del extended.graph.output[:]
    extended.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(extended.SerializeToString(), options, providers=["CPUExecutionProvider"])


def extremes(proto: onnx.ModelProto, tensors: list[str], feed: Iterator[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Minimum and maximum of every tensor over all batches."""
    nodes = [
        helper.make_node(f"Reduce{kind}", [name], [f"{name}/{kind}"], keepdims=0) for name in tensors for kind in ("Min", "Max")
    ]
    session = session_with(proto, [name for node in nodes for name in node.output], nodes)
    low, high = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for x in feed:
        values = np.asarray(session.run(None, {session.get_inputs()[0].name: x})).reshape(-1, 2)
        low, high = np.minimum(low, values[:, 0]), np.maximum(high, values[:, 1])
    return {name: (float(a), float(b)) for name, a, b in zip(tensors, low, high, strict=True)}


def histograms(
    proto: onnx.ModelProto, limits: dict[str, tuple[float, float]], feed: Iterator[np.ndarray]
) -> dict[str, np.ndarray]:
    """Counts [BINS] of every tensor between its minimum and maximum."""
    names = list(limits)
    session = session_with(proto, names, [])
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for x in feed:
        for name, values in zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True):
            low, high = limits[name]
            if high > low:
                scaled = (values.ravel() - low) * (BINS / (high - low))
                bins = np.minimum(scaled.astype(np.int32), BINS - 1)
                counts[name] += np.bincount(bins, minlength=BINS)
    return counts
