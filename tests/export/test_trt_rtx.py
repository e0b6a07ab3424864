"""TensorRT-RTX without a GPU: real engines for architectures that are not here."""

from pathlib import Path
from typing import Any

import pytest

from core import hardware
from core.digest import file_digest
from export.targets import tensorrt_rtx
from tests.export.trt_parts import H200, tiny

ARCHITECTURES = ("SM80", "SM86", "SM89", "SM120")


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines are for other GPUs than the one that the machine may have."""
    monkeypatch.setattr(hardware, "gpu", lambda: None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("quantized", "half", "precision"), [(False, False, "fp32"), (False, True, "fp16"), (True, True, "int8")]
)
def test_rtx_builds_for_an_architecture_without_a_gpu(
    rtx: Any, tmp_path: Path, out: Path, quantized: bool, half: bool, precision: str, architecture: str
) -> None:
    model = tiny(tmp_path / "model", quantized=quantized, half=half)
    options = tensorrt_rtx.Options(compute_capabilities=(architecture,))
    metrics = tensorrt_rtx.build(options, out, model=model, images=tmp_path)
    engine = out / metrics["file"]
    assert metrics["precision"] == precision
    assert metrics["size_bytes"] == engine.stat().st_size > 10_000
    assert metrics["sha256"] == file_digest(engine)
    assert metrics["compute_capabilities"] == [architecture]
    assert metrics["header_compute_capabilities"] == [architecture]  # where we read the header's mask from
    assert "MALFORMED_ENGINE" not in metrics["header_faults"]
    assert metrics["tf32"] is False
    assert metrics["strongly_typed"] is True


@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "int8"])
def test_rtx_builds_one_file_for_all_architectures(rtx: Any, tmp_path: Path, out: Path, quantized: bool) -> None:
    model = tiny(tmp_path / "model", quantized=quantized)
    metrics = tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=model, images=tmp_path)
    assert metrics["header_compute_capabilities"] == list(ARCHITECTURES)
    assert [path.name for path in out.iterdir()] == [metrics["file"]]


def test_rtx_keeps_the_engine_that_the_gpu_here_cannot_run(
    rtx: Any, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: H200)  # of compute capability 9.0
    options = tensorrt_rtx.Options(compute_capabilities=("SM89",))
    metrics = tensorrt_rtx.build(options, out, model=tiny(tmp_path / "model", quantized=True), images=tmp_path)
    assert metrics["int8_share"] is None and (out / metrics["file"]).stat().st_size == metrics["size_bytes"]


def test_rtx_header_check_sees_a_file_that_is_no_engine(rtx: Any) -> None:
    assert tensorrt_rtx.header_faults(rtx, b"not an engine" * 100) == ["MALFORMED_ENGINE"]
    assert tensorrt_rtx.in_header(rtx, b"not an engine" * 100) is None


def test_rtx_names_the_node_it_cannot_read(rtx: Any, tmp_path: Path, out: Path) -> None:
    model = tiny(tmp_path / "model", unknown_operator=True)
    with pytest.raises(ValueError, match=r"cannot read .*model\.onnx: node the_culprit \(NoSuchOperator\): ") as caught:
        tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=model, images=tmp_path)
    assert "\n" not in str(caught.value)


def test_rtx_says_which_architecture_refuses_what(rtx: Any, tmp_path: Path, out: Path) -> None:
    options = tensorrt_rtx.Options(compute_capabilities=("SM75", "SM89"))
    with pytest.raises(ValueError, match=r"cannot build .*SM75.*FP32 GEMM is not supported") as caught:
        tensorrt_rtx.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)
    assert "\n" not in str(caught.value)


def test_rtx_lists_the_architectures_it_knows(rtx: Any, tmp_path: Path, out: Path) -> None:
    options = tensorrt_rtx.Options(compute_capabilities=("SM1",))
    with pytest.raises(ValueError, match=r"unknown compute capability SM1; this version knows SM75, SM80, "):
        tensorrt_rtx.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)


@pytest.mark.skipif(hardware.gpu() is not None, reason="this machine has a GPU")
def test_rtx_load_without_a_gpu_is_a_value_error(rtx: Any, tmp_path: Path, out: Path) -> None:
    tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=tiny(tmp_path / "model"), images=tmp_path)
    with pytest.raises(ValueError, match=r"cannot load the engine on no GPU: .*CUDA"):
        tensorrt_rtx.load(out, 1)


def test_rtx_load_checks_the_engine_before_it_loads_it(rtx: Any, tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"not an engine" * 100)
    with pytest.raises(ValueError, match=r"cannot load the engine on .*: MALFORMED_ENGINE; build it again") as caught:
        tensorrt_rtx.load(tmp_path, 1)
    assert "\n" not in str(caught.value)
