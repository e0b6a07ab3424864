"""TensorRT and TensorRT-RTX on a GPU: engines compute what ONNX Runtime computes from the same file."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.targets import tensorrt, tensorrt_rtx


@pytest.fixture(params=[tensorrt, tensorrt_rtx], ids=["tensorrt", "tensorrt_rtx"])
def target(request: pytest.FixtureRequest) -> ModuleType:
    chosen: ModuleType = request.param
    if reason := chosen.unavailable() or chosen.cannot_run():
        pytest.skip(reason)
    return chosen


def tiny(folder: Path, *, quantized: bool) -> Path:
    """A stage folder with model.onnx: one convolution of 16 channels, ReLU, pooling."""
    values = np.random.default_rng(0).normal(0, 0.2, (16, 3, 3, 3)).astype(np.float32)
    scale = np.abs(values).reshape(16, -1).max(axis=1) / 127
    tensors: dict[str, Any] = {"w": values, "b": np.full(16, 0.1, np.float32)}
    nodes = []
    image = "input"
    if quantized:
        integers = np.rint(values / scale.reshape(16, 1, 1, 1)).astype(np.int8)
        tensors = {"b": tensors["b"], "wi": integers, "ws": scale, "wz": np.zeros(16, np.int8)}
        tensors |= {"xs": np.float32(0.03), "xz": np.int8(0)}
        nodes = [
            helper.make_node("QuantizeLinear", ["input", "xs", "xz"], ["xq"], name="quantize"),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], name="dequantize"),
            helper.make_node("DequantizeLinear", ["wi", "ws", "wz"], ["w"], name="weights", axis=0),
        ]
        image = "xd"
    nodes += [
        helper.make_node("Conv", [image, "w", "b"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["logits"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "int8"])
def test_engine_computes_what_onnxruntime_computes(target: ModuleType, tmp_path: Path, quantized: bool) -> None:
    model = tiny(tmp_path / "model", quantized=quantized)
    out = tmp_path / "out"
    out.mkdir()
    metrics = target.build(target.Options(max_batch=8), out, model=model, images=tmp_path)
    assert metrics["precision"] == ("int8" if quantized else "fp32")
    run = target.load(out, 1)
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 8, 3):
        images = np.random.default_rng(batch).normal(size=(batch, 3, 16, 16)).astype(np.float32)
        images.setflags(write=False)
        expected = session.run(None, {"input": images})[0]
        np.testing.assert_allclose(run(images), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="batch 9: the engine was built for 1 to 8"):
        run(np.zeros((9, 3, 16, 16), np.float32))


def test_an_engine_that_is_damaged_is_a_value_error(target: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"not an engine" * 100)
    with pytest.raises(ValueError, match="cannot load the engine"):
        target.load(tmp_path, 1)


def test_the_share_of_int8_is_a_share_or_unknown(target: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    model = tiny(tmp_path / "model", quantized=True)
    share = target.build(target.Options(), out, model=model, images=tmp_path)["int8_share"]
    assert share is None or 0.0 <= share <= 1.0
