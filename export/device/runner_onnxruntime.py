"""Run engine.onnx with numpy and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [N, C, H, W] -> logits [N, classes]."""
    session = onnxruntime.InferenceSession(str(folder / "engine.onnx"), providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"input": x})[0])
