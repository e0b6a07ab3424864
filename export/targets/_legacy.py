"""The same network for parsers that end at opset 17: TensorRT 8.5 and 8.6 (JetPack 5).

Weights are float32 there, with a QuantizeLinear of their own: TensorRT 8 knows no constants of 8 bits (onnxruntime#11535).
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from core.graph import copied
from core.ort import open_session
from core.text import one_line

OPSET, IR = 17, 8


def legacy(proto: ModelProto) -> ModelProto:
    """`proto` at opset 17 and IR version 8, with weights in float32 and the same logits.

    Raises ValueError with one line where an operator does not exist at opset 17, or the logits differ.
    """
    older = copied(proto)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in older.graph.node:
        make_older(node, constants)
    quantize_weights_in_the_graph(older)
    for entry in older.opset_import:
        entry.version = OPSET if entry.domain == "" else entry.version
    older.ir_version = IR
    try:
        onnx.checker.check_model(older, full_check=True)  # also refuses what opset 17 does not know
        before, after = logits_of(proto), logits_of(older)
    except Exception as error:  # the checker and ONNX Runtime raise types of their own
        raise ValueError(f"it cannot be written at opset {OPSET} ({one_line(error)[:200]})") from error
    if not np.array_equal(before, after):
        raise ValueError(f"at opset {OPSET} its logits differ by up to {np.abs(before - after).max():.2g}")
    return older


def make_older(node: NodeProto, constants: dict[str, np.ndarray]) -> None:
    """Undo what opset 18 changed in the operators of our networks. The converter of onnx cannot convert Split back."""
    attributes = {one.name: one for one in node.attribute}
    if node.op_type == "Split":  # the number of outputs is implicit there
        attributes.pop("num_outputs", None)
    elif node.op_type.startswith("Reduce") and len(node.input) == 2 and node.input[1] in constants:
        attributes["axes"] = helper.make_attribute("axes", constants[node.input[1]].tolist())
        attributes.pop("noop_with_empty_axes", None)
        del node.input[1]
    del node.attribute[:]
    node.attribute.extend(attributes.values())


def quantize_weights_in_the_graph(proto: ModelProto) -> None:
    """Replace integers that a DequantizeLinear reads by the float32 values that they stand for, and a QuantizeLinear."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in tensors]:
        name, scale, _zero_point = node.input
        integers, steps = (numpy_helper.to_array(tensors[key]) for key in (name, scale))
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        shape = [-1 if i == axis else 1 for i in range(integers.ndim)] if steps.ndim else []
        values = integers * steps.reshape(shape)
        tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
        quantized = helper.make_node("QuantizeLinear", node.input, [f"{name}/q"], name=f"{name}/Q", axis=axis)
        node.input[0] = f"{name}/q"
        proto.graph.node.insert(0, quantized)  # it reads constants only, so it may stand before all other nodes


def logits_of(proto: ModelProto) -> np.ndarray:
    """Logits of two images of noise, node by node, because optimizers treat opsets differently."""
    session = open_session(proto, optimize=False)
    given = session.get_inputs()[0]
    shape = [2, *given.shape[1:]]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return np.asarray(session.run(None, {given.name: x})[0])
