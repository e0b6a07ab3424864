"""The bundle's runner for TensorRT and TensorRT-RTX, on stand-ins for the library and the driver."""

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.device import runner_trt

STREAM = 77


class Cuda:
    """A driver whose GPU memory is this process's own; every call returns 0, which is success.

    Copies and kernels take place when their stream is synchronised, as a GPU may do it.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.waiting: list[Callable[[], None]] = []
        self.captures = 0  # 901: an operation that cannot be captured
        self.graphs: list[list[Callable[[], None]]] = []
        self.capturing: list[Callable[[], None]] | None = None
        self.launches = 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        assert (stream.value, mode) == (STREAM, 1) and self.capturing is None
        self.capturing = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        assert self.capturing is not None
        self.graphs.append(self.capturing)
        self.capturing = None
        graph._obj.value = 0 if self.captures else 1000 + len(self.graphs)
        return self.captures

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        assert graph.value > 1000 and flags.value == 0
        executable._obj.value = graph.value
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        assert stream.value == STREAM and self.capturing is None
        self.launches += 1
        self.waiting += self.graphs[executable.value - 1001]
        return 0

    def cuStreamCreate(self, stream: Any, kind: int) -> int:
        assert kind == 1  # does not wait for the default stream
        stream._obj.value = STREAM
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        assert stream.value == STREAM
        for work in self.waiting:
            work()
        self.waiting.clear()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12020
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"RTX 0000"
        return 0

    def cuMemAlloc_v2(self, pointer: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(buffer)
        self.memory[pointer._obj.value] = buffer
        return 0

    def cuMemFree_v2(self, pointer: Any) -> int:
        del self.memory[pointer.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert stream.value == STREAM
        self.waiting.append(lambda: ctypes.memmove(to.value, source.value, size.value))
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2


class Context:
    """Executes an engine whose logits are twice the first two values of each image."""

    def __init__(self, cuda: Cuda) -> None:
        self.addresses: dict[str, int] = {}
        self.cuda = cuda

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return len(shape) == 4

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return self.shape[0], 2

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM  # on the default stream, TensorRT waits for the whole device
        (self.cuda.waiting if self.cuda.capturing is None else self.cuda.capturing).append(self.compute)
        return True

    def compute(self) -> None:
        count = int(np.prod(self.shape))
        images = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses["input"]))
        result = (ctypes.c_float * (2 * self.shape[0])).from_address(self.addresses["logits"])
        result[:] = (2 * images.reshape(self.shape[0], -1)[:, :2]).ravel().tolist()


class Cache:
    """A cache of kernels; `fits` is what the library says about a file that it is given."""

    fits = True

    def __init__(self) -> None:
        self.content = b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        if self.fits:
            self.content = bytes(blob)
        return self.fits

    def serialize(self) -> bytes:
        return self.content


class Settings:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def create_runtime_cache(self) -> Cache:
        cache = Cache()
        self.made.append(weakref.ref(cache))  # like the library's, it does not keep the cache alive
        return cache

    def set_runtime_cache(self, cache: Cache) -> bool:
        return True


def library(*, rtx: bool, validity: tuple[str, int] = ("VALID", 0), loads: bool = True) -> Any:
    trt: Any = ModuleType("stand_in")
    settings = Settings()
    # runner_trt opens the driver first, so it is known when a context is made
    engine = SimpleNamespace(
        create_execution_context=lambda *given: Context(ctypes.CDLL("the driver")),  # type: ignore[arg-type]
        create_runtime_config=lambda: settings,
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine if loads else None)
    trt.__dict__.update(__version__="1.0", settings=settings, Runtime=lambda logger: runtime,
                        Logger=type("Logger", (), {"ERROR": 0, "__init__": lambda self, level: None}))  # fmt: skip
    if rtx:
        runtime.get_engine_validity = lambda content: validity
        trt.EngineValidity = SimpleNamespace(INVALID="INVALID")
        trt.EngineInvalidityDiagnostics = SimpleNamespace(__members__={"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD": 4})
        trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
        trt.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return trt


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)
    return cuda


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.engine").write_bytes(b"engine")
    return tmp_path


def opened(monkeypatch: pytest.MonkeyPatch, folder: Path, trt: Any) -> Any:
    monkeypatch.setitem(sys.modules, runner_trt.MODULE, trt)
    return runner_trt.open_engine(folder)


@pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "tensorrt_rtx"])
def test_answers_for_batches_of_any_size(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path, rtx: bool) -> None:
    run = opened(monkeypatch, folder, library(rtx=rtx))
    rng = np.random.default_rng(0)
    for batch in (1, 4, 2, 4):
        x = rng.normal(size=(batch, 3, 2, 2)).astype(np.float32)
        np.testing.assert_array_equal(run(x), 2 * x.reshape(batch, -1)[:, :2])
    assert len(cuda.memory) == 2  # one room each, grown once
    with pytest.raises(RuntimeError, match="was not built for inputs of shape"):
        run(np.zeros((1, 3), np.float32))


class OldCuda(Cuda):
    """A driver before CUDA 11.4."""

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        raise AttributeError("undefined symbol: cuGraphInstantiateWithFlags")


@pytest.mark.parametrize(
    ("rtx", "driver", "captures", "launches"),
    [(False, Cuda, 0, 4), (False, Cuda, 901, 0), (False, OldCuda, 0, 0), (True, Cuda, 0, 0)],  # RTX has graphs of its own
    ids=["tensorrt", "not_capturable", "old_driver", "tensorrt_rtx"],
)
def test_kernels_are_started_at_once_from_the_second_query_of_a_shape_on(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rtx: bool, driver: type[Cuda], captures: int, launches: int
) -> None:
    cuda = driver()
    cuda.captures = captures
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)
    run = opened(monkeypatch, folder, library(rtx=rtx))
    rng = np.random.default_rng(0)
    for batch in (1, 1, 1, 4, 4, 1, 1):  # a graph is lost with the shape that it was captured for
        x = rng.normal(size=(batch, 3, 2, 2)).astype(np.float32)
        np.testing.assert_array_equal(run(x), 2 * x.reshape(batch, -1)[:, :2])
    assert cuda.launches == launches


def test_compiled_kernels_are_kept_for_the_next_start(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path) -> None:
    file, trt, x = folder / "runtime.cache", library(rtx=True), np.zeros((1, 1, 2, 2), np.float32)
    run = opened(monkeypatch, folder, trt)
    assert not file.exists()
    run(x)
    assert file.read_bytes() == b"kernels"
    assert trt.settings.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert trt.settings.cuda_graph_strategy == "whole"
    gc.collect()
    assert trt.settings.made[0]() is not None  # lives as long as the engine does

    file.write_bytes(b"kernels of the first start")
    opened(monkeypatch, folder, library(rtx=True))(x)
    assert file.read_bytes() == b"kernels of the first start"  # what was read is what is kept
    monkeypatch.setattr(Cache, "fits", False)
    opened(monkeypatch, folder, library(rtx=True))(x)
    assert file.read_bytes() == b"kernels"  # of another GPU: begun anew
    assert {path.name for path in folder.iterdir()} == {"model.engine", "runtime.cache"}


def test_kernels_that_cannot_be_written_do_no_harm(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path) -> None:
    (folder / "runtime.cache").mkdir()  # not even root can write a file there
    run = opened(monkeypatch, folder, library(rtx=True))
    assert run(np.ones((1, 1, 2, 2), np.float32)).tolist() == [[2, 2]]
    assert {path.name for path in folder.iterdir()} == {"model.engine", "runtime.cache"}


def test_tensorrt_has_no_cache_of_kernels(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path) -> None:
    opened(monkeypatch, folder, library(rtx=False))(np.zeros((1, 1, 2, 2), np.float32))
    assert [path.name for path in folder.iterdir()] == ["model.engine"]


@pytest.mark.parametrize(
    ("trt", "reason"),
    [
        (
            library(rtx=True, validity=("INVALID", 3)),
            r"cannot load model\.engine on RTX 0000: VERSION_MISMATCH, UNSUPPORTED_CC; ",
        ),
        (library(rtx=True, validity=("INVALID", 0), loads=False), r"cannot load model\.engine on RTX 0000; build it again"),
        (library(rtx=False, loads=False), r"cannot load model\.engine on RTX 0000; build it again"),
    ],
    ids=["invalid", "invalid_without_fault", "old"],
)
def test_an_engine_that_does_not_fit_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path, trt: Any, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason) as caught:
        opened(monkeypatch, folder, trt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("validity", [("SUBOPTIMAL", 2), ("INVALID", 0)])
def test_an_engine_that_may_work_is_tried(
    monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path, validity: tuple[str, int]
) -> None:
    run = opened(monkeypatch, folder, library(rtx=True, validity=validity))
    assert run(np.ones((1, 1, 2, 2), np.float32)).tolist() == [[2, 2]]


def test_cuda_that_does_not_initialise_is_one_line(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, folder: Path) -> None:
    trt = library(rtx=False)

    def refuse(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Runtime = refuse
    reason = (
        r"^tensorrt 1\.0 cannot use RTX 0000, whose driver is for CUDA 12\.2: update the driver, or install .*tensorrt-cu12$"
    )
    with pytest.raises(RuntimeError, match=reason):
        opened(monkeypatch, folder, trt)


def test_windows_has_its_driver_under_another_name(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    cuda, names = Cuda(), []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: names.append(name) or cuda, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)  # for the stand-in of the library alone
    run = opened(monkeypatch, folder, library(rtx=True))
    assert run(np.ones((1, 1, 2, 2), np.float32)).tolist() == [[2, 2]]
    assert names == ["nvcuda.dll"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(RuntimeError, match="no NVIDIA GPU here"):
        opened(monkeypatch, folder, library(rtx=False))
    monkeypatch.setitem(sys.modules, runner_trt.MODULE, None)
    with pytest.raises(RuntimeError, match="needs the Python package tensorrt, which does not load"):
        runner_trt.open_engine(folder)
    (folder / "model.engine").unlink()
    with pytest.raises(RuntimeError, match=r"run build\.sh there first"):
        runner_trt.open_engine(folder)
