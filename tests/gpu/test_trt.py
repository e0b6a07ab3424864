"""TensorRT and TensorRT-RTX on a GPU: engines compute what ONNX Runtime computes from the same file."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

from core.digest import file_digest
from export.device import runner_trt
from export.half import halved
from export.targets import tensorrt, tensorrt_rtx
from tests.export.trt_parts import tiny

CONVOLUTIONS = 0.999  # less than their share of the multiply-accumulates; the classifier has the rest


@pytest.fixture(params=[tensorrt, tensorrt_rtx], ids=["tensorrt", "tensorrt_rtx"])
def target(request: pytest.FixtureRequest) -> ModuleType:
    chosen: ModuleType = request.param
    if reason := chosen.unavailable() or chosen.cannot_run():
        pytest.skip(reason)
    return chosen


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


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_the_convolutions_run_in_int8(target: ModuleType, tmp_path: Path, half: bool) -> None:
    """What the inspector of TensorRT-RTX prints is not documented, so the share may be unknown there."""
    out = tmp_path / "out"
    out.mkdir()
    model = tiny(tmp_path / "model", quantized=True)
    given = half_of(model, tmp_path / "half") if half else model
    share = target.build(target.Options(), out, model=given, images=tmp_path)["int8_share"]
    assert target is tensorrt_rtx if share is None else share > CONVOLUTIONS


def test_the_runner_of_the_bundle_computes_the_same(
    target: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.build(target.Options(), tmp_path, model=tiny(tmp_path / "model", quantized=True), images=tmp_path)
    monkeypatch.setattr(runner_trt, "MODULE", target.__name__.rpartition(".")[2])
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    for _ in range(2):  # the second time with the kernels that the first one compiled
        np.testing.assert_allclose(runner_trt.open_engine(tmp_path)(x), target.load(tmp_path, 1)(x), rtol=1e-3, atol=1e-3)
    assert (tmp_path / "runtime.cache").exists() is (target is tensorrt_rtx)


@pytest.mark.parametrize("name", ["model.onnx", "legacy.onnx"])
def test_the_device_builds_and_measures(tmp_path: Path, name: str) -> None:
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
    assert record["onnx"] == name and record["gpu"] and record["int8_share"] > CONVOLUTIONS
    assert record["latency_ms"]["n"] == 1000 and 0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p99"]
    assert json.loads((out / "bundle.json").read_text())["sha256"] == file_digest(out / "model.engine")
