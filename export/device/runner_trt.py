"""Run model.engine with numpy, the TensorRT (RTX) package and the GPU driver, which holds the memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorrt  # the stubs of version 10 (PyPI: tensorrt-stubs), for `make check`

MODULE = "tensorrt"


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [1, C, H, W] -> logits [1, classes].

    TensorRT-RTX compiles kernels for the GPU of the device; they are kept in `folder`/runtime.cache for the next start.
    Raises RuntimeError with one line where the engine cannot be run on this machine.
    """
    if not (folder / "model.engine").exists():
        raise RuntimeError(f"no model.engine in {folder}: it is built on the device; run build.sh there first")
    try:
        trt = importlib.import_module(MODULE)
        version = trt.__version__
    except (ImportError, OSError, AttributeError) as error:  # it or its libraries are not installed; a folder of that name
        if not (folder / "runner_trtexec.py").exists():
            raise RuntimeError(f"model.engine needs the Python package {MODULE}, which does not load: {error}") from error
        through: Any = importlib.import_module("runner_trtexec")
        return through.open_engine(folder)  # type: ignore[no-any-return]
    driver = Driver()
    runtime = started(trt, driver)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # version-compatible engines carry their own runtime; this one is ours
    content = (folder / "model.engine").read_bytes()
    refused = f"{MODULE} {version} cannot load model.engine on {driver.name()}"
    if found := faults(trt, runtime, content):
        raise RuntimeError(f"{refused}: {', '.join(found)}; build it again for this machine")
    engine: tensorrt.ICudaEngine | None = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise RuntimeError(f"{refused}; build it again for this machine")
    settings = runtime_settings(trt, engine)
    kernels = kernel_cache(settings, folder / "runtime.cache")
    context: tensorrt.IExecutionContext | None = (
        engine.create_execution_context() if settings is None else engine.create_execution_context(settings)
    )
    if context is None:
        raise RuntimeError(f"{MODULE} {version} cannot prepare model.engine on {driver.name()}")

    execution = Execution(context, driver, graphs=settings is None)
    unsaved = [] if kernels is None else [kernels]

    def run(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        if execution.shape != x.shape:
            execution.prepare(x.shape)
        logits = np.empty(execution.result_shape, np.float32)
        given, result = driver.rooms["input"][1], driver.rooms["logits"][1]
        # All on one stream: a copy from memory that is not pinned may return before its end.
        size, stream = ctypes.c_size_t, driver.stream
        driver.call("cuMemcpyHtoDAsync_v2", given, ctypes.c_void_p(x.ctypes.data), size(x.nbytes), stream)
        execution.start()
        driver.call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(logits.ctypes.data), result, size(logits.nbytes), stream)
        driver.call("cuStreamSynchronize", stream)
        while unsaved:
            keep(unsaved.pop(), folder / "runtime.cache")
        return logits

    run.__dict__["opened"] = (engine, context)
    run.__dict__["alive"] = (runtime, settings, kernels)  # the context points into them and does not hold them
    return run


def started(trt: Any, driver: Driver) -> tensorrt.Runtime:
    """Raises RuntimeError where CUDA does not initialise for the library: pybind11 gets no object then, a TypeError."""
    try:
        runtime: tensorrt.Runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        return runtime
    except TypeError as error:
        raise RuntimeError(
            f"{MODULE} {trt.__version__} cannot use {driver.name()}, whose driver is for {driver.version()}: update the "
            "driver, or install the package for an older CUDA, such as tensorrt-cu12"
        ) from error


class Execution:
    """Executes `context` on the driver's stream, for the shape of images that it was last prepared for.

    With `graphs`, a CUDA graph starts all kernels of a query at once, from the second query of a shape on: for small images the
    starts take longer than the kernels. TensorRT needs the first query without one, and a graph is invalid when the context
    changes ("CUDA Graphs" in its developer guide). TensorRT-RTX makes its graphs itself.
    """

    def __init__(self, context: tensorrt.IExecutionContext, driver: Driver, *, graphs: bool) -> None:
        self.context, self.driver, self.graphs = context, driver, graphs
        self.shape: tuple[int, ...] | None = None
        self.graph = ctypes.c_void_p()

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Raises RuntimeError for a shape that the engine was not built for."""
        if self.graph:
            self.driver.call("cuGraphExecDestroy", self.graph)
        self.shape, self.graph, self.queries = None, ctypes.c_void_p(), 0
        if not self.context.set_input_shape("input", shape):
            raise RuntimeError(f"model.engine was not built for inputs of shape {shape}")
        result: Any = self.context.get_tensor_shape("logits")
        self.shape, self.result_shape = shape, tuple(result)
        for name, sides in (("input", shape), ("logits", self.result_shape)):
            room = self.driver.room(name, 4 * int(np.prod(sides)))
            self.context.set_tensor_address(name, room.value)

    def start(self) -> None:
        """Start the kernels of one query."""
        self.queries += 1
        if self.graphs and self.queries == 2:
            self.graphs = self.capture()
        if self.graph:
            self.driver.call("cuGraphLaunch", self.graph, self.driver.stream)
        elif not self.enqueue():
            raise RuntimeError(f"{MODULE} could not execute model.engine")

    def enqueue(self) -> bool:
        return self.context.execute_async_v3(self.driver.stream.value or 0)

    def capture(self) -> bool:
        """Make the graph; False where an operation cannot be captured, or the driver is older than CUDA 11.4."""
        call, captured = self.driver.call, ctypes.c_void_p()
        try:
            call("cuStreamBeginCapture_v2", self.driver.stream, 1)  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            complete = self.enqueue()
            call("cuStreamEndCapture", self.driver.stream, ctypes.byref(captured))
            if complete:
                call("cuGraphInstantiateWithFlags", ctypes.byref(self.graph), captured, ctypes.c_ulonglong(0))
                call("cuGraphDestroy", captured)
        except (RuntimeError, AttributeError):
            return False
        return complete


class Driver:
    """Memory and a stream of the GPU, through its driver: this needs no other package.

    TensorRT synchronises the whole device after each call on the default stream, so it gets another one.
    """

    def __init__(self) -> None:
        try:
            self.cuda = library()
        except OSError as error:
            raise RuntimeError("no NVIDIA GPU here: its driver (libcuda.so.1, nvcuda.dll) is missing") from error
        self.device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(self.device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)
        self.stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(self.stream), 1)  # CU_STREAM_NON_BLOCKING
        self.rooms: dict[str, tuple[int, ctypes.c_uint64]] = {}

    def call(self, function: str, *arguments: Any) -> None:
        if code := getattr(self.cuda, function)(*arguments):
            raise RuntimeError(f"the CUDA driver returned error {code} from {function}")

    def room(self, name: str, size: int) -> ctypes.c_uint64:
        """GPU memory of at least `size` bytes, the same as last time where it is large enough."""
        held, pointer = self.rooms.get(name, (0, ctypes.c_uint64()))
        if held < size:
            if held:
                self.call("cuMemFree_v2", pointer)
            pointer = ctypes.c_uint64()
            self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
            self.rooms[name] = (size, pointer)
        return pointer

    def name(self) -> str:
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), self.device)
        return name.value.decode()

    def version(self) -> str:
        """The newest CUDA that the driver supports."""
        number = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(number))
        return f"CUDA {number.value // 1000}.{number.value % 1000 // 10}"


def library() -> Any:
    """The driver's own. Raises OSError where there is none."""
    if sys.platform == "win32":
        return ctypes.WinDLL("nvcuda.dll")
    return ctypes.CDLL("libcuda.so.1")


def faults(trt: Any, runtime: Any, engine: bytes) -> list[str]:
    """The faults that the library finds in the header of the serialized `engine` on this machine.

    Empty where the engine is valid (also SUBOPTIMAL, which is slow), and where the library has no such check. INVALID without a
    fault is ignored: 1.7 returns it where it finds no GPU, and the error of loading the engine is clearer.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return []
    validity, bits = runtime.get_engine_validity(engine)
    if validity != trt.EngineValidity.INVALID:
        return []
    return [name for name, bit in trt.EngineInvalidityDiagnostics.__members__.items() if int(bits) & int(bit)]


def runtime_settings(trt: Any, engine: Any) -> Any:
    """TensorRT-RTX only, else None: compile for a new shape at once instead of swapping kernels in later, and start all
    kernels of a query at once, as a CUDA graph: for small images their starts take longer than they do."""
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return None
    settings = engine.create_runtime_config()
    settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    if hasattr(trt, "CudaGraphStrategy"):  # since 1.2
        settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return settings


def kernel_cache(settings: Any, file: Path) -> Any:
    """The cache that `settings` now use, filled from `file` if it is of this GPU, driver and library; None without one."""
    if not hasattr(settings, "create_runtime_cache"):
        return None
    cache = settings.create_runtime_cache()
    with contextlib.suppress(OSError):  # the first start, or a file that may not be read
        cache.deserialize(file.read_bytes())  # a file that does not fit leaves it empty
    return cache if settings.set_runtime_cache(cache) else None


def keep(cache: Any, file: Path) -> None:
    """Write the compiled kernels to `file`, completely or not at all; in a folder without write access, starts stay slow."""
    content = bytes(cache.serialize())
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        if not file.exists() or file.read_bytes() != content:
            temporary.write_bytes(content)
            temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
