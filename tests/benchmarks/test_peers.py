"""Every tool of the benchmark that is installed here makes an INT8 file that its runtime executes in integers."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import calibration, quantized
from benchmarks.runtimes import OPEN, compared_on, marked, opened
from benchmarks.turns import Row
from data.loader import Split, batches
from tests.conftest import Small

# What each tool needs here. modelopt.onnx is for TensorRT; without a GPU it is openvino that executes its file in integers.
NEEDS = {"NNCF": ("nncf", "openvino"), "modelopt": ("onnx_graphsurgeon", "openvino"), "quantize_static": ("onnxruntime",)}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions around a residual Add, and a classifier: 1x32x32 -> 10."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="fc", transB=1),
    ]
    weights = [weight("w1", 32, 1, 3, 3), weight("w2", 32, 32, 3, 3), weight("w3", 10, 32)]
    biases = [weight(f"b{i}", n) for i, n in ((1, 32), (2, 32), (3, 10))]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights + biases,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("network")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx")
    return folder


@pytest.mark.parametrize("tool", ["quantize_static, percentile 99.99", "modelopt.onnx", "NNCF, mixed"])
def test_a_tool_makes_a_file_that_answers_like_the_network(tool: str, network: Path, small: Small, tmp_path: Path) -> None:
    needed = next(modules for start, modules in NEEDS.items() if tool.startswith(start))
    if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed (pip install -e '.[bench]')")
    file, seconds = quantized(tool, network, small.images, 32, tmp_path / "out")
    runtime = "onnxruntime" if needed == ("onnxruntime",) else "openvino"
    row, *more = opened(runtime, tool, file, seconds, 1)
    assert row.why == "" and row.run is not None and row.int8_share is not None
    assert row.int8_share > 0.9 and seconds > 0
    x = calibration(small.images, 32)[0]
    expected = OPEN["onnxruntime"][0](network / "model.onnx", 1)(x)
    for one in (row, *more):
        assert one.run is not None
        assert np.abs(one.run(x) - expected).max() < 0.1 * np.abs(expected).max()
        assert np.allclose(one.run(x[:1]), one.run(x)[:1], atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("tool", "runtime", "compared", "placed_for"),
    [
        ("quantize_static, min-max", "onnxruntime", True, ""),
        ("quantize_static, min-max", "openvino", False, "onnxruntime"),
        ("NNCF, mixed", "onnxruntime", False, "openvino"),
        ("NNCF, mixed", "openvino", True, ""),
        ("modelopt.onnx", "onnxruntime", True, "TensorRT"),
        ("modelopt.onnx", "openvino", True, "TensorRT"),
    ],
)
def test_a_file_is_opened_where_it_is_placed_for_and_everywhere_if_that_runtime_is_not_compared(
    tool: str, runtime: str, compared: bool, placed_for: str
) -> None:
    assert compared_on(runtime, tool) == compared
    assert marked([Row("a")], runtime, tool)[0].placed_for == placed_for


def test_a_tool_that_fails_says_why(small: Small, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"model\.onnx"):
        quantized("quantize_static, min-max", tmp_path, small.images, 16, tmp_path / "out")


def test_a_file_that_a_runtime_refuses_becomes_a_row_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a network")
    (row,) = opened("onnxruntime", "somebody", tmp_path / "model.onnx", 1.0, 1)
    assert row.run is None and row.why.startswith("onnxruntime cannot open it: ")


def test_tools_calibrate_on_the_images_that_observe_takes(small: Small) -> None:
    expected = next(batches(Split(small.images, "train"), 40, shuffle=True, limit=40))[0].numpy()
    assert np.array_equal(np.concatenate(calibration(small.images, 32)), expected[:32])
