"""FP32 ONNX -> files from which a device builds the baseline that its other engine is compared with (TensorRT).

The scripts and the options are those of the bundle of the other engine.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx

from core.config import Config
from core.graph import macs_per_node
from export.targets._engine import described
from export.targets.tensorrt import ON_DEVICE


class PrepareFp32(Config):
    """It has no options of its own."""


def prepare_fp32(config: PrepareFp32, out: Path, *, model: Path, bundle: Path) -> dict[str, Any]:
    """The network stays in float32, where TensorRT is strongly typed: from version 10. Before, it may use 16-bit floats."""
    proto = onnx.load(model / "model.onnx")
    onnx.save(proto, out / "model.onnx")
    plan = json.loads((bundle / "build.json").read_text())
    (out / "build.json").write_text(json.dumps({**plan, "macs": macs_per_node(proto)}, indent=1))
    for name in ON_DEVICE:
        shutil.copy(bundle / name, out / name)
    return described(out / "model.onnx", precision="fp32", int8_share=0.0)
