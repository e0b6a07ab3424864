"""Run model.engine with numpy, the TensorRT (RTX) package and the GPU driver, which holds the memory."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np

MODULE = "tensorrt"


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [1, C, H, W] -> logits [1, classes]."""
    trt = __import__(MODULE)
    cuda = ctypes.CDLL("libcuda.so.1")

    def check(code: int) -> None:
        if code:
            raise RuntimeError(f"the CUDA driver answered with error {code}")

    device, context = ctypes.c_int(), ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDeviceGet(ctypes.byref(device), 0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(cuda.cuCtxSetCurrent(context))

    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine((folder / "model.engine").read_bytes())
    if engine is None:
        raise RuntimeError(f"{MODULE} {trt.__version__} cannot load model.engine on this GPU; build it again for it")
    execution = engine.create_execution_context()

    def allocate(size: int) -> ctypes.c_uint64:
        pointer = ctypes.c_uint64()
        check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)))
        return pointer

    def run(x: np.ndarray, keep: tuple[object, ...] = (runtime, engine)) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        execution.set_input_shape("input", x.shape)
        logits = np.empty(tuple(execution.get_tensor_shape("logits")), np.float32)
        given, result = allocate(x.nbytes), allocate(logits.nbytes)
        try:
            check(cuda.cuMemcpyHtoD_v2(given, ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(x.nbytes)))
            execution.set_tensor_address("input", given.value)
            execution.set_tensor_address("logits", result.value)
            if not execution.execute_async_v3(0):
                raise RuntimeError(f"{MODULE} could not execute the engine")
            check(cuda.cuCtxSynchronize())
            check(cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(logits.ctypes.data), result, ctypes.c_size_t(logits.nbytes)))
        finally:
            check(cuda.cuMemFree_v2(given))
            check(cuda.cuMemFree_v2(result))
        return logits

    return run
