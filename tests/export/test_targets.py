"""The contract of export/targets/, for every file there is; and the exported ONNX answers like PyTorch."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import NoneType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from calibration.place import place_qdq
from core.digest import file_digest
from core.placement import Placement
from core.profile import here
from data.loader import Split
from export import targets
from export.bundle import BundleOf, bundle
from export.onnx import Export, export_onnx
from measure.engines import Measure
from models.checkpoint import load
from tests.conftest import Small
from tests.placements import ORT


@pytest.fixture(params=targets.names())
def target(request: pytest.FixtureRequest) -> targets.Target:
    return targets.get(request.param)


def input_of(target: targets.Target, small: Small) -> Path:
    return small.model if target.READS == "checkpoint" else small.onnx


def test_says_what_it_is(target: targets.Target) -> None:
    assert target.READS in ("onnx", "checkpoint")
    assert target.REQUIRES and all(isinstance(name, str) for name in target.REQUIRES)
    assert isinstance(target.placement(here()), (Placement, NoneType))
    assert target.untimed(here()) in ("int8", "fp16")
    assert target.Options() == target.Options()
    json.dumps(target.platform())  # it is part of a cache key
    for reason in (target.unavailable(), target.cannot_run()):
        assert reason is None or (len(reason) > 20 and "\n" not in reason)


def test_builds_runs_and_answers_like_pytorch(target: targets.Target, small: Small, tmp_path: Path) -> None:
    if reason := target.unavailable():
        pytest.skip(reason)
    metrics = target.build(target.Options(), tmp_path, model=input_of(target, small), images=small.images)
    engine = tmp_path / metrics["file"]
    assert metrics["size_bytes"] == engine.stat().st_size > 1_000_000
    assert metrics["sha256"] == file_digest(engine)
    assert metrics["precision"] == "fp32"
    if reason := target.cannot_run():
        pytest.skip(f"built, but not run: {reason}")
    x, _ = Split(small.images, "test").__getitems__(list(range(8)))
    run = target.load(tmp_path, 2)
    with torch.inference_mode():
        expected = load(small.model)[0](x).numpy()
    for batch in (1, 8):
        got = run(x[:batch].numpy())
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected[:batch], atol=2e-3 * np.abs(expected).max())


def test_int8_is_built_and_its_bundle_verifies_itself(target: targets.Target, small: Small, tmp_path: Path) -> None:
    if (placement := target.placement(here())) is None:
        pytest.skip("it has no INT8")
    if reason := target.unavailable():
        pytest.skip(reason)
    placed, engine, device = tmp_path / "placed", tmp_path / "engine", tmp_path / "device"
    for folder in (placed, engine, device):
        folder.mkdir()
    place_qdq(placement, placed, model=small.onnx, ranges=small.ranges)
    metrics = target.build(target.Options(), engine, model=placed, images=small.images)
    assert metrics["precision"] == "int8"
    # Stages find the engine through the manifest that the pipeline writes.
    (engine / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    load = None if target.cannot_run() else target.load
    bundle(BundleOf(), device, engine=engine, model=placed, images=small.images, runner=target.runner, load=load)
    assert {"preprocess.json", "labels.txt", "golden.npz", "infer.py", "verify.py"} <= {p.name for p in device.iterdir()}
    if reason := target.cannot_run():
        pytest.skip(f"built, but not run: {reason}")
    command = [sys.executable, "verify.py"]
    done = subprocess.run(command, cwd=device, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = bytearray((device / metrics["file"]).read_bytes())
    content[len(content) // 2] ^= 1
    (device / metrics["file"]).write_bytes(content)
    done = subprocess.run(command, cwd=device, capture_output=True, text=True)
    assert done.returncode == 1
    assert "has been changed" in done.stderr and len(done.stderr.splitlines()) == 1


def test_default_batches_fit_the_default_engines() -> None:
    measured = Measure()
    for name in targets.names():
        largest = getattr(targets.get(name).Options(), "max_batch", None)
        assert largest is None or max(measured.batch_size, *measured.throughput) <= largest


def test_onnxruntime_executes_everything_in_integers(small: Small, tmp_path: Path) -> None:
    target = targets.get("onnxruntime")
    place_qdq(ORT, tmp_path, model=small.onnx, ranges=small.ranges)
    (tmp_path / "engine").mkdir()
    metrics = target.build(target.Options(), tmp_path / "engine", model=tmp_path, images=small.images)
    assert metrics["int8_share"] == 1.0


def test_a_new_file_is_a_new_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(str(targets.__file__)).parent / "onnxruntime.py", tmp_path / "abacus.py")
    monkeypatch.setattr(targets, "__path__", [*targets.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    assert "abacus" in targets.names()
    assert targets.get("abacus").unavailable() is None


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"abacus.*onnxruntime, openvino, tensorrt, tensorrt_rtx"):
        targets.get("abacus")


def test_onnx_equals_pytorch_at_batch_1_and_n_on_real_images(small: Small) -> None:
    x, _ = Split(small.images, "test").__getitems__(list(range(16)))
    session = ort.InferenceSession(small.onnx / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = load(small.model)[0](x).numpy()
    for batch in (1, 16):
        got = session.run(None, {"input": x[:batch].numpy()})[0]
        np.testing.assert_allclose(got, expected[:batch], atol=1e-3 * np.abs(expected).max())
    proto = onnx.load(small.onnx / "model.onnx")
    assert not any(node.op_type == "BatchNormalization" for node in proto.graph.node)
    stored = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert stored["labels"][9] == "Ankle boot" and stored["preprocess"]["input_size"] == 32


def test_an_export_that_answers_differently_is_refused(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differs from PyTorch"):
        export_onnx(Export(tolerance=0), tmp_path, model=small.model, images=small.images)
