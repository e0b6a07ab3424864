"""Run engine.onnx with numpy and OpenVINO, compiled as properties.json says, on the threads that bundle.json says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [1, C, H, W] -> logits [1, classes]. What OpenVINO compiles is kept in `folder`/cache for the next start."""
    core = openvino.Core()
    model = core.read_model(str(folder / "engine.onnx"))
    _, *image = model.input(0).get_partial_shape()
    model.reshape([1, *image])
    config = {**json.loads((folder / "properties.json").read_text()), "CACHE_DIR": str(folder / "cache")}
    threads = json.loads((folder / "bundle.json").read_text()).get("threads")
    if threads:  # more threads than cores would wait for one another
        config["INFERENCE_NUM_THREADS"] = min(threads, os.cpu_count() or threads)
    request = core.compile_model(model, "CPU", config).create_infer_request()
    return lambda x: np.array(request.infer({0: x})[0])
