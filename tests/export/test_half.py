"""float16 twins: the same answers, float32 at both ends, and engines that say what they really compute in."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.place import place_qdq
from core.placement import Placement
from core.profile import here
from data.loader import Split
from export import targets
from export.half import HalfOf, half, halved
from export.targets import openvino
from tests.conftest import Small

SHORTCUT = Placement(activation="int8", symmetric=True, bias="float", residual="shortcut", pool=False)


def answers(file: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    # Its optimizer (1.31) makes integer kernels of float16 Q/DQ that answer wrongly; node by node it does what the file says.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0])


@pytest.mark.parametrize("quantized", [False, True], ids=["plain", "qdq"])
def test_answers_like_its_float32_twin_at_every_batch(quantized: bool, small: Small, tmp_path: Path) -> None:
    model = small.onnx
    if quantized:
        place_qdq(SHORTCUT, tmp_path, model=small.onnx, ranges=small.ranges)
        model = tmp_path
    (tmp_path / "half").mkdir()
    half(HalfOf(), tmp_path / "half", model=model)
    file = tmp_path / "half" / "model.onnx"
    proto = onnx.load(file)
    assert TensorProto.FLOAT not in {tensor.data_type for tensor in proto.graph.initializer}
    assert proto.opset_import[0].version >= 19  # Q/DQ with float16 scales
    ends = (proto.graph.input[0], proto.graph.output[0])
    assert [end.type.tensor_type.elem_type for end in ends] == [TensorProto.FLOAT, TensorProto.FLOAT]
    original = onnx.load(model / "model.onnx")
    assert {e.key: e.value for e in proto.metadata_props} == {e.key: e.value for e in original.metadata_props} != {}
    x = Split(small.images, "test").__getitems__(list(range(32)))[0].numpy()
    exact, expected, got = (answers(f, x) for f in (small.onnx / "model.onnx", model / "model.onnx", file))
    assert got.dtype == np.float32
    np.testing.assert_allclose(answers(file, x[:1]), got[:1], atol=1e-2 * np.abs(got).max())
    if quantized:  # values near the middle of two integers become the other one: as far from the truth, elsewhere
        assert np.sqrt(np.mean((got - exact) ** 2)) < 1.2 * np.sqrt(np.mean((expected - exact) ** 2))
    else:
        np.testing.assert_allclose(got, expected, atol=1e-2 * np.abs(expected).max())


def scaled(value: float) -> onnx.ModelProto:
    nodes = [helper.make_node("Mul", ["input", "factor"], ["logits"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("input", "logits")]
    factor = numpy_helper.from_array(np.array([value, 0], np.float32), "factor")
    graph = helper.make_graph(nodes, "scaled", ends[:1], ends[1:], [factor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(ValueError, match=r"factor holds 7e\+04, float16 ends at 65504"):
        halved(scaled(7e4))


def test_no_scale_becomes_zero() -> None:
    stored = numpy_helper.to_array(halved(scaled(1e-9)).graph.initializer[0])
    assert stored.dtype == np.float16 and stored[0] > 0 and stored[1] == 0


def test_openvino_says_what_it_computes_the_half_in(small: Small, tmp_path: Path) -> None:
    if reason := openvino.unavailable():
        pytest.skip(reason)
    if openvino.half(here()) is None:
        pytest.skip("this processor has no 16-bit floats")
    (tmp_path / "half").mkdir()
    half(HalfOf(), tmp_path / "half", model=small.onnx)
    built = openvino.build(openvino.Options(), tmp_path, model=tmp_path / "half", images=small.images)
    assert built["precision"] == openvino.half(here())
    assert built["int8_share"] == 0


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_openvino_answers_alike_with_both_hints(hint: str, small: Small, tmp_path: Path) -> None:
    target = targets.get("openvino")
    if reason := target.unavailable():
        pytest.skip(reason)
    target.build(target.Options(hint=hint), tmp_path, model=small.onnx, images=small.images)
    x = Split(small.images, "test").__getitems__(list(range(9)))[0].numpy()
    expected = answers(small.onnx / "model.onnx", x)
    np.testing.assert_allclose(target.load(tmp_path, 2)(x), expected, atol=1e-3 * np.abs(expected).max())


def test_openvino_ends_its_work_before_an_interruption_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Queue:
        def __init__(self, network: object) -> None: ...

        def set_callback(self, callback: object) -> None: ...

        def start_async(self, inputs: object, index: int) -> None:
            calls.append(index)
            if index == 1:
                raise KeyboardInterrupt

        def wait_all(self) -> None:
            calls.append("waited")

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(AsyncInferQueue=Queue))
    with pytest.raises(KeyboardInterrupt):
        openvino.one_by_one(None)(np.zeros((3, 1, 8, 8), np.float32))
    assert calls == [0, 1, "waited"]
