"""Bias corrections are the mean errors that looking at every image finds, and they are applied where they hold."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn.functional import conv2d

from calibration.correct import corrections, local_errors
from calibration.place import CORRECTIONS, NEUTRAL, activation_scale, place_qdq, quantize
from calibration.ranges import Range
from calibration.session import predict_logits
from calibration.weights import quantize_per_channel
from core.graph import copied
from tests.placements import RTX as TRT

RANGES: dict[str, Range] = {"input": (-1.0, 1.5), "a": (0.0, 1.2), "b": (0.0, 2.0), "mean": (0.0, 0.5)}  # they clip


@pytest.fixture(scope="module")
def proto() -> ModelProto:
    """Two convolutions, one with a stride, groups and no bias; pooling; a linear layer."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("Relu", ["c2"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc", "b3"], ["logits"], name="last", transB=1),
    ]
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 4, 3, 3), "fc": (5, 12), "b3": (5,)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32) * 0.3, name) for name, s in shapes.items()]
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])]
    ends += [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def batches() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(n, 3, 8, 8)).astype(np.float32) for n in (16, 16, 5)]


def rounded(name: str, x: Tensor) -> Tensor:
    scale, zero = activation_scale(*RANGES[name], NEUTRAL)
    return (torch.clamp(torch.round(x / float(scale)) + zero, 0, 255) - zero) * float(scale)


def rounded_weight(w: Tensor) -> Tensor:
    integers, scale = quantize_per_channel(w.numpy().astype(np.float32), 0, 64 if NEUTRAL.reduce_range else 127)
    return torch.from_numpy(integers * scale.reshape(-1, *[1] * (w.ndim - 1))).double()


def test_equals_the_mean_error_over_all_images_and_positions(proto: ModelProto, batches: list[np.ndarray]) -> None:
    w = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()).double() for i in proto.graph.initializer}
    x = torch.from_numpy(np.concatenate(batches)).double()
    a = torch.relu(conv2d(x, w["w1"], w["b1"], padding=1))
    b = torch.relu(conv2d(a, w["w2"], padding=1, stride=2, groups=2))
    first = conv2d(rounded("input", x), rounded_weight(w["w1"]), padding=1) - conv2d(x, w["w1"], padding=1)
    second = conv2d(rounded("a", a), rounded_weight(w["w2"]), padding=1, stride=2, groups=2)
    second -= conv2d(a, w["w2"], padding=1, stride=2, groups=2)
    mean = b.mean(dim=(2, 3))
    last = rounded("mean", mean) @ rounded_weight(w["fc"]).T - mean @ w["fc"].T
    found, logits = local_errors(proto, RANGES, batches)
    assert list(found) == ["first", "second", "last"]
    for name, error in (
        ("first", first.mean(dim=(0, 2, 3))),
        ("second", second.mean(dim=(0, 2, 3))),
        ("last", last.mean(dim=0)),
    ):
        assert error.abs().max() > 1e-3, "there is something to correct"
        assert found[name] == pytest.approx(error.numpy(), abs=1e-5), name
    assert logits == pytest.approx(predict_logits(proto, batches).mean(axis=0), abs=1e-6)


def test_the_mean_answer_becomes_that_of_fp32(proto: ModelProto, batches: list[np.ndarray]) -> None:
    expected = predict_logits(proto, batches).mean(axis=0)

    def off(found: dict[str, np.ndarray] | None) -> float:
        quantized = copied(proto)
        quantize(quantized, RANGES, NEUTRAL, found)
        return float(np.abs(predict_logits(quantized, batches).mean(axis=0) - expected).max())

    assert off(corrections(proto, RANGES, batches)) < 0.02 * off(None)


def test_placed_where_the_rounding_is_the_one_they_were_measured_with(
    proto: ModelProto, batches: list[np.ndarray], tmp_path: Path
) -> None:
    onnx.save(proto, tmp_path / "model.onnx")
    found = corrections(proto, RANGES, batches)
    logits = {}
    for name in ("plain", "corrected"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "ranges.json").write_text(json.dumps(RANGES))
        if name == "corrected":
            save_file(found, folder / CORRECTIONS[False])
        for kind, placement in (("neutral", NEUTRAL), ("tensorrt", TRT)):
            place_qdq(placement, folder, model=tmp_path, ranges=folder)
            logits[name, kind] = predict_logits(onnx.load(folder / "model.onnx"), batches)
    expected = predict_logits(proto, batches).mean(axis=0)
    errors = {key: float(np.abs(value.mean(axis=0) - expected).max()) for key, value in logits.items()}
    assert errors["corrected", "neutral"] < 0.02 * errors["plain", "neutral"]
    assert np.array_equal(logits["corrected", "tensorrt"], logits["plain", "tensorrt"])
