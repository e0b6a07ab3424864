"""What TensorRT needs and this machine lacks, in one line each."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest

from core import hardware
from export.targets import tensorrt, tensorrt_rtx
from tests.export.trt_parts import H200, one_line, stand_in


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("tensorrt", tensorrt), ("tensorrt_rtx", tensorrt_rtx)):
        monkeypatch.setitem(sys.modules, name, None)
        assert "is not installed: pip install -e '.[tensorrt" in one_line(target.unavailable())
        assert target.platform()["version"] is None


def test_a_package_whose_libraries_are_missing_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10:\\n cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert "does not load (libnvinfer.so.10: cannot open): pip install" in one_line(tensorrt.unavailable())


def test_tensorrt_without_a_gpu_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in("10.16.0"))
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    assert "no NVIDIA GPU here" in one_line(tensorrt.unavailable())
    monkeypatch.setattr(hardware, "gpu", lambda: H200)
    assert tensorrt.unavailable() is None


def test_why_an_engine_cannot_run(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    for target in (tensorrt, tensorrt_rtx):
        assert "no NVIDIA GPU here" in one_line(target.cannot_run())
    monkeypatch.setattr(hardware, "gpu", lambda: H200)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "install a CUDA build" in one_line(tensorrt.cannot_run())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert tensorrt.cannot_run() is None
    assert "does not support H200 (compute capability 9.0)" in one_line(tensorrt_rtx.cannot_run())
    monkeypatch.setattr(hardware, "gpu", lambda: {**H200, "compute_capability": "8.9"})
    assert tensorrt_rtx.cannot_run() is None


class Driver:
    """libcuda with one H200, or with `status` != 0: a driver that finds no device."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"H200"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13000
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def absent(name: str) -> Any:
    raise OSError(name)


def test_the_driver_of_windows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr(ctypes, "WinDLL", {"nvcuda.dll": Driver()}.__getitem__, raising=False)
    assert hardware.gpu.__wrapped__() == H200


def test_a_folder_named_like_the_package_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle has a folder tensorrt/, and Python imports a folder in the path as a package without content."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert "package tensorrt is not installed" in one_line(tensorrt.unavailable())
    assert tensorrt.platform()["version"] is None


@pytest.mark.parametrize(
    ("library", "expected"), [(lambda name: Driver(), H200), (lambda name: Driver(100), None), (absent, None)]
)
def test_gpu_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch, library: Any, expected: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert hardware.gpu.__wrapped__() == expected
