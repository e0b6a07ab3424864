"""Weights, biases and ranges at the ends of their types: what the integers stand for stays what the float network computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from torch.nn.functional import conv2d

from calibration.equalize import equalize, scales_for
from calibration.observe import statistics
from calibration.place import NEUTRAL, activation_scale, quantize
from calibration.ranges import Histogram, rounding_error, select
from calibration.session import predict_logits
from calibration.weights import LARGEST_BIAS, TINY, quantize_per_channel, smallest_scale
from core.placement import Placement
from core.profile import here
from export import targets
from export.half import halved

SIGNED = Placement(activation="int8", symmetric=False, bias="int32", residual="all", pool=True)
SEVEN_BITS = NEUTRAL.model_copy(update={"reduce_range": True})
TARGETS = {name: targets.get(name).placement(here()) for name in targets.names()}
PLACEMENTS: dict[str, Any] = {
    "7-bit weights": SEVEN_BITS,
    "int8": SIGNED,
    **{name: placement for name, placement in TARGETS.items() if placement},
}
CHANNELS = 8
Weights = dict[str, np.ndarray]


def network(weights: Weights) -> onnx.ModelProto:
    """input [n, 3, 6, 6] -> conv w1 b1, relu = a -> conv w2 b2 = logits [n, 4, 6, 6]; the kernels have 3 x 3."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["a"], name="relu"),
        helper.make_node("Conv", ["a", "w2", "b2"], ["logits"], name="second", pads=[1, 1, 1, 1]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 6, 6]) for n, c in (("input", 3), ("logits", 4))]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def ordinary(rng: np.random.Generator) -> Weights:
    shapes = {"w1": (CHANNELS, 3, 3, 3), "b1": (CHANNELS,), "w2": (4, CHANNELS, 3, 3), "b2": (4,)}
    return {name: (rng.normal(size=shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}


def extreme(rng: np.random.Generator) -> Weights:
    """Channels of the first layer as training leaves them behind, each of another kind."""
    w = ordinary(rng)
    w["w1"][0], w["b1"][0] = 0, 3  # batch norm: gamma 0, beta 3
    w["w1"][1], w["b1"][1] = 1e-42, 2  # the same after weight decay: denormal
    w["w1"][2], w["b1"][2] = 1e-20, -2
    w["w1"][3], w["b1"][3] = 0, 0
    w["w1"][4:6] *= 10.0 ** rng.integers(-9, 7)  # a huge fold, or a tiny one
    w["w2"][0] *= 10.0 ** rng.integers(-6, 7)
    w["w2"][1], w["b2"][1] = 0, rng.choice([-1e6, 1e-6, 5])
    return w


def convolved(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return conv2d(*(torch.from_numpy(v.astype(np.float64)) for v in (x, w, b)), padding=1).numpy()


def rounded_weight(w: np.ndarray, scale: np.ndarray, largest: int) -> np.ndarray:
    scale = scale.astype(np.float64).reshape(-1, 1, 1, 1)
    return np.clip(np.rint(w / scale), -largest, largest) * scale


def rounded(x: np.ndarray, low: float, high: float, placement: Placement) -> np.ndarray:
    scale, zero = activation_scale(low, high, placement)
    first, last = (0, 255) if placement.activation == "uint8" else (-128, 127)
    return (np.clip(np.rint(x / float(scale)) + zero, first, last) - zero) * float(scale)


def scales_in(proto: onnx.ModelProto, part: str) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer if i.name.endswith(part)}


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_fake_quantization_in_float64_within_one_step(seed: int, kind: str) -> None:
    placement, rng = PLACEMENTS[kind], np.random.default_rng(seed)
    w = extreme(rng)
    x = (rng.normal(size=(4, 3, 6, 6)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    a = np.maximum(convolved(x, w["w1"], w["b1"]), 0)
    ranges = {name: (float(t.min()), float(t.max())) for name, t in (("input", x), ("a", a))}
    proto = network(w)
    quantize(proto, ranges, placement)
    got = predict_logits(proto, [x]).astype(np.float64)
    assert np.isfinite(got).all()

    largest = 64 if placement.reduce_range else 127
    scales = [next(iter(scales_in(proto, f"{name}/scale").values())) for name in ("w1/c1", "w2/logits")]
    first, second = (rounded_weight(w[name], scale, largest) for name, scale in zip(("w1", "w2"), scales, strict=True))
    expected_a = np.maximum(convolved(rounded(x, *ranges["input"], placement), first, w["b1"]), 0)
    expected = convolved(rounded(expected_a, *ranges["a"], placement), second, w["b2"])
    # A value of `a` near the middle of two integers may become the other one: one step in a few inputs of a sum.
    step = float(activation_scale(*ranges["a"], placement)[0])
    reach = step * np.abs(second).reshape(4, -1).max(axis=1) + 1e-5 * np.abs(expected).max(axis=(0, 2, 3))
    reach += step * scales[1]  # of the bias
    assert (np.abs(got - expected).max(axis=(0, 2, 3)) <= 1.01 * reach).all()


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize("weight", [0.0, 1e-42, 1e-20])
@pytest.mark.parametrize("bias", [2.0, -1e6])
def test_a_dead_channel_keeps_its_bias(weight: float, bias: float, kind: str) -> None:
    w = ordinary(np.random.default_rng(0))
    w["w2"][1], w["b2"][1] = weight, bias
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    proto = network(w)
    quantize(proto, {"input": (-4.0, 4.0), "a": (0.0, 3.0)}, PLACEMENTS[kind])
    assert predict_logits(proto, [x])[:, 1] == pytest.approx(bias, rel=1e-4)


@pytest.mark.parametrize("kind", [kind for kind, placement in PLACEMENTS.items() if placement.bias == "int32"])
@pytest.mark.parametrize("corrected", [False, True], ids=["bias", "corrected bias"])
@pytest.mark.parametrize("layer", ["Conv", "Gemm", "Gemm transposed"])
def test_an_int32_bias_is_not_clipped(layer: str, corrected: bool, kind: str) -> None:
    """Only the scale of a channel whose weights are too small for its bias is raised."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(CHANNELS, 3)).astype(np.float32)
    weight[:5] = np.array([0, 1e-42, TINY, -1e-20, 1e-10], np.float32)[:, None]
    bias = np.array([2, 2, -2, 1e6, -2, 2, -2, 0], np.float32)
    proto = one_layer(layer, weight, np.zeros_like(bias) if corrected else bias)
    quantize(proto, {"input": (-4.0, 4.0)}, PLACEMENTS[kind], {"layer": -bias} if corrected else None)
    name = "layer/corrected_bias" if corrected else "b"
    stored = {part: next(iter(scales_in(proto, f"{name}/logits/{part}").values())) for part in ("quantized", "scale")}
    assert stored["quantized"].dtype == np.int32
    assert (np.abs(stored["quantized"].astype(np.int64)) <= LARGEST_BIAS * (1 + 1e-6)).all()
    # Half a step of the bias, where a bias has few of them.
    assert (np.abs(stored["quantized"] * stored["scale"].astype(np.float64) - bias) <= 0.5001 * stored["scale"]).all()
    scale = scales_in(proto, "w/logits/scale")["w/logits/scale"]
    largest = 64 if PLACEMENTS[kind].reduce_range else 127
    assert scale[5:] == pytest.approx(np.abs(weight[5:]).max(axis=1) / largest, rel=1e-6)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    logits = predict_logits(proto, [x if layer != "Conv" else x[:, :, None, None]]).reshape(4, CHANNELS)
    assert logits[:, :5] == pytest.approx(np.broadcast_to(bias[:5], (4, 5)), rel=1e-4)


def one_layer(layer: str, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """input -> logits by one convolution of 1 x 1 or one linear layer; `weight` [outputs, inputs], `bias` [outputs]."""
    kind, _, transposed = layer.partition(" ")
    outputs, inputs = weight.shape
    pixels = [1, 1] if kind == "Conv" else []
    stored = weight.reshape(outputs, inputs, *pixels) if kind == "Conv" or transposed else weight.T
    attributes = {"transB": 1} if transposed else {}
    node = helper.make_node(kind, ["input", "w", "b"], ["logits"], name="layer", **attributes)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, *pixels])
        for name, channels in (("input", inputs), ("logits", outputs))
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in (("w", stored), ("b", bias))]
    graph = helper.make_graph([node], "network", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("input_scale", [1e-30, 1e-6, 0.02, 1e4])
@pytest.mark.parametrize("bias", [0.0, 1e-30, 3.0, -2.0, 1e9])
def test_the_smallest_scale_leaves_room_for_the_products_beside_the_bias(bias: float, input_scale: float) -> None:
    scale = np.float32(smallest_scale(np.array([bias], np.float32), np.float32(input_scale)))
    bias_scale = scale * np.float32(input_scale)
    assert np.isfinite(scale).all()
    assert (scale >= TINY).all()
    assert (bias_scale > 0).all()
    assert (np.abs(np.round(bias / bias_scale)) <= LARGEST_BIAS * (1 + 1e-6)).all()


@pytest.mark.parametrize("floats", ["float32", "float16"])
@pytest.mark.parametrize("magnitude", [0.0, 1e-45, 1e-38, 1e-9, 1e-6, 1e-3, 1.0, 1e6, 3e38])
def test_every_channel_has_a_scale_of_its_own(magnitude: float, floats: str) -> None:
    """Whatever stands in the channel beside it: no weight is off by more than half a step."""
    weight = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3, 3)).astype(np.float32)
    weight[0] *= magnitude
    weight[2] *= 1e7
    values, scale = quantize_per_channel(weight, 0, 127, floats=floats)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    step = scale.astype(np.float64).reshape(-1, 1, 1, 1)
    assert (np.abs(values * step - weight) <= 0.5001 * step).all()
    exact = np.abs(weight).max(axis=(1, 2, 3)) / 127
    fits = (exact > (6.2e-5 if floats == "float16" else TINY)) & (exact < 65504)
    assert (scale[fits] <= 1.001 * exact[fits]).all()


@pytest.mark.parametrize("magnitude", [1.0, 1e-2, 1e-4, 1e-6, 1e-12])
def test_the_cast_to_float16_leaves_scales_as_they_are(magnitude: float) -> None:
    w = ordinary(np.random.default_rng(0))
    w["w1"][2] *= magnitude
    proto = network(w)
    quantize(proto, {"input": (-4.0, 4.0), "a": (0.0, 3.0 * magnitude)}, PLACEMENTS["tensorrt_rtx"])
    half = halved(proto)
    for name, scale in scales_in(proto, "scale").items():
        narrow = next(numpy_helper.to_array(i) for i in half.graph.initializer if i.name == name)
        assert narrow.dtype == np.float16
        assert (narrow.astype(np.float32) == scale).all(), name


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 0.0), (5.0, 5.0), (-5.0, -5.0), (-4.0, -1.0), (-1e6, 1e-6), (0.0, 1e-45), (-1e-45, 0.0), (-1e-38, 1e-38),
        (0.0, 1e-6), (0.0, 1e6), (-3e38, 3e38),
    ],
)  # fmt: skip
def test_a_range_has_a_scale_that_divides_and_covers_it(low: float, high: float, kind: str) -> None:
    placement = PLACEMENTS[kind]
    scale, zero = activation_scale(low, high, placement)
    assert np.isfinite(scale)
    assert scale >= 2.0**-100
    reach = rounded(np.array([low, 0.0, high]), low, high, placement)
    assert reach[1] == 0.0
    assert np.abs(reach - [low, 0.0, high]).max() <= scale * 1.01
    assert zero in range(-128, 256)


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
@pytest.mark.parametrize(
    "values",
    [[1e-45, 2e-45], [-1e-40, 1e-40], [-5.0, -5.0], [-5.0, -1.0], [3e38, -3e38], [0.0, 1e6, 1e-6], [1e-31, 0.0]],
    ids=str,
)
def test_every_method_finds_a_range_within_the_values(values: ArrayLike, method: Any) -> None:
    x = np.repeat(np.array(values, np.float32), 50)
    histogram = Histogram()
    histogram.add(float(x.min()), float(x.max()), x)
    low, high = select(histogram, method=method)
    assert float(x.min()) <= low <= high <= float(x.max())
    assert np.isfinite(rounding_error(histogram, low, high))


@pytest.mark.parametrize("peak", [0.0, 1e-45, 1e-20, 1e30, np.inf])
def test_equalization_keeps_weights_finite(peak: float) -> None:
    w = extreme(np.random.default_rng(3))
    proto = network(w)
    with np.errstate(all="raise", under="ignore"):
        scales = scales_for(proto, {"a": np.array([0.0, peak] * (CHANNELS // 2), np.float32)})
        equalize(proto, scales)
    assert all((s > 1e-5).all() and (s < 1e5).all() for s in scales.values())
    assert all(np.isfinite(numpy_helper.to_array(i)).all() for i in proto.graph.initializer)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_activations_that_are_not_finite_are_refused_with_the_layer(value: float) -> None:
    w = ordinary(np.random.default_rng(0))
    w["w1"][:] = value
    with pytest.raises(ValueError, match=r"activation 'a' of layer 'relu' \(Relu\) has values .* not all finite"):
        statistics(network(w), {"input": 108, "a": 288}, [np.ones((2, 3, 6, 6), np.float32)], 64)


def test_both_ends_of_the_network_survive_a_file(tmp_path: Path) -> None:
    """int8 values and scales are stored as they were computed."""
    proto = network(extreme(np.random.default_rng(5)))
    quantize(proto, {"input": (-1.0, 1.0), "a": (0.0, 3.0)}, PLACEMENTS["onnxruntime"])
    onnx.save(proto, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
