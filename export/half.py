"""float32 ONNX, plain or with Q/DQ -> the same network in float16 inside (model.onnx); float32 images in, float32 logits out.

The file is strongly typed in TensorRT's sense: it states the precision of every layer. Q/DQ with float16 scales needs opset 19.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, version_converter

from core.config import Config

LARGEST, SMALLEST = 65504.0, 2.0**-24  # of float16, the smallest above zero


class Half(Config):
    """`opset` of the float16 file. TensorRT 10.3 reads up to 20, and Q/DQ in float16 starts with 19."""

    opset: int = 19


class HalfOf(Half):
    """The same for one network. `float32_input`: a QuantizeLinear of the images reads them in float32, without a Cast."""

    float32_input: bool = False


def half(config: HalfOf, out: Path, *, model: Path) -> dict[str, Any]:
    """Write `model`/model.onnx in float16 to `out`/model.onnx.

    Raises ValueError when a weight does not fit into float16.
    """
    onnx.save(halved(onnx.load(model / "model.onnx"), **config.model_dump()), out / "model.onnx")
    return {"opset": config.opset}


def halved(proto: ModelProto, opset: int = Half().opset, *, float32_input: bool = False) -> ModelProto:
    """A float16 copy of `proto` at `opset`, or at its own where that is newer."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    graph_of = version_converter.convert_version(proto, max(opset, proto.opset_import[0].version))
    graph = graph_of.graph
    exact = keep_scale_of_input(graph) if float32_input else set()
    for tensor in graph.initializer:
        if tensor.name in exact:
            continue
        shrink(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                shrink(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    del graph.value_info[:]  # their types are no longer valid
    cast_input(graph, exact)
    cast_output(graph)
    helper.set_model_props(graph_of, metadata)
    onnx.checker.check_model(graph_of, full_check=True)
    return graph_of


def shrink(tensor: TensorProto) -> None:
    """float32 -> float16 in place; other types stay."""
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if values.size and not np.abs(values).max() <= LARGEST:  # NaN is not, either
        raise ValueError(
            f"{tensor.name} holds {np.abs(values).max():.3g}, float16 ends at {LARGEST:g}: leave out the float16 engines, "
            "with targets that do not build them"
        )
    narrow = values.astype(np.float16)
    lost = (narrow == 0) & (values != 0)  # a scale must not be 0
    narrow = np.where(lost, np.copysign(SMALLEST, values).astype(np.float16), narrow)
    tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))


def keep_scale_of_input(graph: onnx.GraphProto) -> set[str]:
    """Give every QuantizeLinear of the input a scale of its own, which stays float32; returns the names of these scales.

    Its DequantizeLinear has the old one: its output has the type of its scale.
    """
    scales = {tensor.name: tensor for tensor in graph.initializer}
    kept = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == graph.input[0].name and node.input[1] in scales:
            name = f"{node.input[1]}/float32"
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(scales[node.input[1]]), name))
            node.input[1] = name
            kept.add(name)
    return kept


def cast_input(graph: onnx.GraphProto, exact: Set[str]) -> None:
    """Cast the input to float16, except where it is quantized with one of the scales `exact`."""
    source = graph.input[0].name
    readers = [node for node in graph.node if source in node.input and not exact & set(node.input)]
    if not readers:
        return
    for node in readers:
        node.input[:] = [f"{source}/half" if name == source else name for name in node.input]
    graph.node.insert(0, helper.make_node("Cast", [source], [f"{source}/half"], name=f"{source}/cast", to=TensorProto.FLOAT16))


def cast_output(graph: onnx.GraphProto) -> None:
    result = graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{result}/half" if name == result else name for name in node.output]
        node.input[:] = [f"{result}/half" if name == result else name for name in node.input]
    graph.node.append(helper.make_node("Cast", [f"{result}/half"], [result], name=f"{result}/cast", to=TensorProto.FLOAT))
