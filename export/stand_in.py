"""ONNX Runtime in the place of a device: it computes the ONNX file of an engine that is made for another machine.

The logits are those of the file, with exact integer sums. They are not those of the device: its kernels and its runtime differ.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.ort import open_session
from export.bundle import engine_file
from export.targets import onnxruntime


def load(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function float32 [N, C, H, W] -> float32 logits [N, classes]."""
    session = open_session(engine_file(engine), threads, saturate=False)

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"input": x})[0])

    return run


def platform() -> dict[str, Any]:
    """What the logits depend on."""
    return onnxruntime.platform()
