"""The Q/DQ model in ONNX Runtime equals fake quantization done by hand, within one step; the placement rules hold."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn.functional import conv2d

from calibration.place import activation_scale, place_qdq
from core.placement import Placement
from tests.conftest import Small
from tests.placements import ORT
from tests.placements import RTX as TRT

WEIGHTS = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,)}


def residual_block(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x -> conv, relu = a; a -> conv, + a, relu."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["a"]),
        helper.make_node("Conv", ["a", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "a"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["logits"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 8, 8]) for n, c in (("input", 3), ("logits", 16))]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "block", value[:1], value[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def padded_block(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x -> conv, relu = a; a -> conv of stride 2; a -> every second pixel, zeros on both sides; their sum, relu."""
    sides = (("input", 3, 8), ("logits", 24, 4))
    constants = {"start": [0, 0], "end": [8, 8], "axes": [2, 3], "step": [2, 2], "widths": [0, 4, 0, 0, 0, 4, 0, 0]}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Slice", ["a", "start", "end", "axes", "step"], ["slice"]),
        helper.make_node("Pad", ["slice", "widths"], ["pad"]),
        helper.make_node("Add", ["c2", "pad"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["logits"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, s, s]) for n, c, s in sides]
    arrays = weights | {name: np.asarray(numbers, np.int64) for name, numbers in constants.items()}
    graph = helper.make_graph(nodes, "block", value[:1], value[1:], [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("placement", [ORT, TRT], ids=["onnxruntime", "tensorrt"])
def test_a_padded_shortcut_has_the_grid_of_what_it_pads(placement: Placement, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {**WEIGHTS, "w2": (24, 16, 3, 3), "b2": (24,)}
    w = {name: rng.normal(size=shape).astype(np.float32) * (0.2 if len(shape) > 1 else 0.1) for name, shape in shapes.items()}
    x = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)

    def shortcut(a: np.ndarray) -> np.ndarray:
        return np.pad(a[:, :, ::2, ::2], ((0, 0), (4, 4), (0, 0), (0, 0)))

    exact = {"input": x, "a": convolved(x, w["w1"], w["b1"])}
    exact["c2"] = convolved(exact["a"], w["w2"], w["b2"])[:, :, ::2, ::2]
    exact["sum"] = exact["c2"] + shortcut(exact["a"])
    ranges = {name: [float(t.min()), float(t.max())] for name, t in exact.items()}  # none of "slice" and "pad": it is that of a
    onnx.save(padded_block(w), tmp_path / "model.onnx")
    (tmp_path / "ranges.json").write_text(json.dumps(ranges))
    (tmp_path / "out").mkdir()
    place_qdq(placement, tmp_path / "out", model=tmp_path, ranges=tmp_path)
    session = ort.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"input": x})[0]

    def q(name: str, values: np.ndarray) -> np.ndarray:
        return rounded(values, *activation_scale(*ranges[name], placement), placement.activation)

    a = q("a", convolved(q("input", x), rounded_weight(w["w1"], placement.floats), w["b1"]))
    second = convolved(a, rounded_weight(w["w2"], placement.floats), w["b2"])[:, :, ::2, ::2]
    expected = np.maximum((q("c2", second) if placement.residual == "all" else second) + shortcut(a), 0)
    step = max(float(activation_scale(*ranges[name], placement)[0]) for name in ("a", "c2"))
    assert np.abs(got - expected).max() <= step * 1.001
    assert np.abs(got - expected).mean() <= step * 0.05
    pairs = [node.input[0] for node in onnx.load(tmp_path / "out/model.onnx").graph.node if node.op_type == "QuantizeLinear"]
    assert ("slice" in pairs) == placement.pool and "pad" in pairs


def rounded(x: np.ndarray, scale: float, zero_point: int, kind: str) -> np.ndarray:
    low, high = (0, 255) if kind == "uint8" else (-128, 127)
    return (np.clip(np.rint(x / scale) + zero_point, low, high) - zero_point) * scale


def rounded_weight(w: np.ndarray, floats: str = "float32") -> np.ndarray:
    """int8, symmetric, one scale per output channel, of the type `floats`: in float16 the next one that is no smaller."""
    scale = np.abs(w).reshape(len(w), -1).max(axis=1) / 127
    if floats == "float16":
        above = np.nextafter(scale.astype(np.float16), np.float16(np.inf))
        scale = np.where(scale.astype(np.float16) < scale, above, scale.astype(np.float16)).astype(np.float32)
    scale = scale.reshape(-1, 1, 1, 1)
    return np.rint(w / scale) * scale


def convolved(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double(), torch.from_numpy(b).double(), padding=1).numpy()


@pytest.mark.parametrize("placement", [ORT, TRT], ids=["onnxruntime", "tensorrt"])
def test_equals_fake_quantization_in_numpy_within_one_step(placement: Placement, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = {name: rng.normal(size=shape).astype(np.float32) * (0.2 if len(shape) > 1 else 0.1) for name, shape in WEIGHTS.items()}
    x = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)
    exact = {"input": x, "a": np.maximum(convolved(x, w["w1"], w["b1"]), 0)}
    exact["c2"] = convolved(exact["a"], w["w2"], w["b2"])
    exact["sum"] = exact["c2"] + exact["a"]
    exact["logits"] = np.maximum(exact["sum"], 0)
    ranges = {name: [float(t.min()), float(t.max())] for name, t in exact.items()}
    onnx.save(residual_block(w), tmp_path / "model.onnx")
    (tmp_path / "ranges.json").write_text(str(ranges).replace("'", '"'))
    (tmp_path / "out").mkdir()
    place_qdq(placement, tmp_path / "out", model=tmp_path, ranges=tmp_path)
    session = ort.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"input": x})[0]

    def q(name: str, values: np.ndarray) -> np.ndarray:
        return rounded(values, *activation_scale(*ranges[name], placement), placement.activation)

    a = np.maximum(convolved(q("input", x), rounded_weight(w["w1"], placement.floats), w["b1"]), 0)
    second = convolved(q("a", a), rounded_weight(w["w2"], placement.floats), w["b2"])
    second = q("c2", second) if placement.residual == "all" else second
    expected = np.maximum(second + q("a", a), 0)
    step = max(float(activation_scale(*ranges[name], placement)[0]) for name in ("a", "c2"))
    assert np.abs(got - expected).max() <= step * 1.001
    assert np.abs(got - expected).mean() <= step * 0.05  # and nearly everywhere not even that
    assert np.abs(got - exact["logits"]).max() > step / 4  # it is quantized


def test_zero_is_exact_and_the_range_is_covered() -> None:
    for placement in (ORT, TRT):
        for low, high in ((0.0, 6.0), (-1.0, 3.0), (-4.0, -1.0), (0.0, 0.0)):
            scale, zero = activation_scale(low, high, placement)
            reach = rounded(np.array([low, 0.0, high]), float(scale), zero, placement.activation)
            assert reach[1] == 0.0
            assert np.abs(reach - [low, 0.0, high]).max() <= scale * 1.01


def test_tensorrt_quantizes_the_shortcut_of_every_residual_add_and_nothing_else_of_it(small: Small, tmp_path: Path) -> None:
    place_qdq(TRT, tmp_path, model=small.onnx, ranges=small.ranges)
    proto = onnx.load(tmp_path / "model.onnx")
    producer = {name: node for node in proto.graph.node for name in node.output}
    adds = [node for node in proto.graph.node if node.op_type == "Add"]
    assert len(adds) == 8
    for add in adds:
        kinds = sorted(producer[name].op_type for name in add.input)
        assert kinds == ["Conv", "DequantizeLinear"], add.name
        shortcut = next(producer[name] for name in add.input if producer[name].op_type == "DequantizeLinear")
        # Behind the pair stands the block's input or its projection; only those have 1x1 kernels in a resnet18.
        source = producer[producer[shortcut.input[0]].input[0]]
        kernel = [list(a.ints) for a in source.attribute if a.name == "kernel_shape"]
        assert source.op_type in ("Relu", "MaxPool") or kernel == [[1, 1]], add.name
    zeros = [numpy_helper.to_array(i) for i in proto.graph.initializer if i.name.endswith("zero_point")]
    assert all(z.dtype == np.int8 and not z.any() for z in zeros)
    assert not any(i.data_type == TensorProto.INT32 for i in proto.graph.initializer)  # TensorRT refuses int32 biases


def test_every_convolution_and_the_classifier_are_quantized(small: Small, tmp_path: Path) -> None:
    for placement in (ORT, TRT):
        metrics = place_qdq(placement, tmp_path, model=small.onnx, ranges=small.ranges)
        assert metrics["layers"] == 21  # 20 convolutions, 1 linear
