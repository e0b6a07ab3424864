"""TensorRT and TensorRT-RTX on a GPU: engines compute what ONNX Runtime computes from the same file."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.digest import file_digest
from export.device import runner_trt
from export.half import halved
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


def half_of(model: Path, folder: Path) -> Path:
    folder.mkdir()
    onnx.save(halved(onnx.load(model / "model.onnx")), folder / "model.onnx")
    return folder


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("quantized", [False, True], ids=["plain", "qdq"])
def test_engine_computes_what_onnxruntime_computes(target: ModuleType, tmp_path: Path, quantized: bool, half: bool) -> None:
    model = tiny(tmp_path / "model", quantized=quantized)
    out = tmp_path / "out"
    out.mkdir()
    given = half_of(model, tmp_path / "half") if half else model
    metrics = target.build(target.Options(max_batch=8), out, model=given, images=tmp_path)
    assert metrics["precision"] == ("int8" if quantized else "fp16" if half else "fp32")
    run = target.load(out, 1)
    close = 2e-2 if half else 1e-3  # float16 has 11 bits, and moves values across steps of INT8
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 8, 3):
        images = np.random.default_rng(batch).normal(size=(batch, 3, 16, 16)).astype(np.float32)
        images.setflags(write=False)
        expected = session.run(None, {"input": images})[0]
        np.testing.assert_allclose(run(images), expected, rtol=close, atol=close)
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


def test_the_runner_of_the_bundle_answers_the_same(target: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.build(target.Options(), tmp_path, model=tiny(tmp_path / "model", quantized=True), images=tmp_path)
    monkeypatch.setattr(runner_trt, "MODULE", target.__name__.rpartition(".")[2])
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    for _ in range(2):  # the second time with the kernels that the first one compiled
        np.testing.assert_allclose(runner_trt.open_engine(tmp_path)(x), target.load(tmp_path, 1)(x), rtol=1e-3, atol=1e-3)
    assert (tmp_path / "runtime.cache").exists() is (target is tensorrt_rtx)


@pytest.mark.parametrize("name", ["model.onnx", "legacy.onnx"])
def test_the_device_builds_measures_and_tells(tmp_path: Path, name: str) -> None:
    if reason := tensorrt.unavailable():
        pytest.skip(reason)
    out = tmp_path / "out"
    out.mkdir()
    tensorrt.prepare(tensorrt.Options(), out, model=tiny(tmp_path / "model", quantized=True))
    (out / "runner.py").write_text(tensorrt.runner())
    (out / "bundle.json").write_text("{}")
    done = subprocess.run([sys.executable, "build_engine.py", name], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "device.json").read_text())
    assert record["onnx"] == name and record["gpu"] and record["int8_share"] in (None, 0.0, 1.0)  # it has one convolution
    assert record["latency_ms"]["n"] == 1000 and 0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p99"]
    assert json.loads((out / "bundle.json").read_text())["sha256"] == file_digest(out / "model.engine")
