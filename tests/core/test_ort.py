"""Every ONNX Runtime session is opened in one place, and each of its options does what it says."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from core import hardware
from core.ort import open_session
from tests.conftest import Small

PROJECT = Path(__file__).resolve().parents[2]
PRODUCT = ("core", "data", "models", "compress", "calibration", "export", "measure", "reports", "pipeline", "benchmarks")


def test_no_other_module_opens_a_session() -> None:
    """The files of export/device are copied to devices and import nothing of the project."""
    files = [file for folder in PRODUCT for file in (PROJECT / folder).rglob("*.py")]
    naming = {str(file.relative_to(PROJECT)) for file in files if "InferenceSession(" in file.read_text()}
    assert naming == {"core/ort.py", "export/device/runner_onnxruntime.py"}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)


def test_a_file_and_a_network_in_memory_are_the_same(small: Small, image: np.ndarray) -> None:
    file = small.onnx / "model.onnx"
    logits = [open_session(model).run(None, {"input": image})[0] for model in (file, onnx.load(file))]
    assert np.array_equal(*logits)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (None, hardware.cores())])
def test_threads(small: Small, threads: int | None, expected: int) -> None:
    session = open_session(small.onnx / "model.onnx", threads)
    assert session.get_session_options().intra_op_num_threads == expected


@pytest.mark.parametrize("pattern", [True, False])
def test_memory_pattern(small: Small, pattern: bool) -> None:
    session = open_session(small.onnx / "model.onnx", memory_pattern=pattern)
    assert session.get_session_options().enable_mem_pattern == pattern


def operators(session_file: str) -> list[str]:
    events = json.loads(Path(session_file).read_text())
    return [event["args"]["op_name"] for event in events if event.get("cat") == "Node" and "op_name" in event["args"]]


@pytest.mark.parametrize("optimize", [True, False])
def test_the_profile_shows_the_nodes_of_the_file_only_without_optimization(
    small: Small, image: np.ndarray, tmp_path: Path, optimize: bool
) -> None:
    file = small.onnx / "model.onnx"
    session = open_session(file, 1, optimize=optimize, profile=tmp_path / "profile")
    session.run(None, {"input": image})
    written = [node.op_type for node in onnx.load(file).graph.node]
    assert (sorted(operators(session.end_profiling())) == sorted(written)) is not optimize
