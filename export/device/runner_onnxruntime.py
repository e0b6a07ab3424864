"""Run engine.onnx with numpy and ONNX Runtime, on the threads that bundle.json says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [N, C, H, W] -> logits [N, classes]."""
    options = onnxruntime.SessionOptions()
    threads = json.loads((folder / "bundle.json").read_text()).get("threads")
    if threads:  # more threads than cores would wait for one another
        options.intra_op_num_threads = min(threads, os.cpu_count() or threads)
    session = onnxruntime.InferenceSession(str(folder / "engine.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"input": x})[0])
