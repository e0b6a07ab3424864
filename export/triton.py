"""A finished engine -> a folder of a Triton model repository: <name>/config.pbtxt, <name>/1/model.onnx or model.plan, labels.

onnxruntime   by the backend onnxruntime
openvino      by the backend onnxruntime, too, with OpenVINO as its accelerator, which takes any batch and computes in float32
              (compared with onnxruntime-openvino 1.24: the logits of openvino in float32, bit by bit, FP32 and INT8). The
              backend openvino compiles for max_batch_size alone, computes that many images for a single one, fails when a
              full batch follows a padded one, and has an option for bfloat16 but none for float32 (read in
              openvino_backend, src/openvino.cc, August 2026; its pull request 115)
tensorrt      by the backend tensorrt
TensorRT-RTX has no backend.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from core.config import Config
from data.loader import Split
from export.bundle import engine_file
from models.sidecar import LABELS, write_beside

OPENVINO = 'optimization { execution_accelerators { cpu_execution_accelerator [ { name: "openvino" } ] } }'
# target: (backend, file, kind of instance, more of the config)
SERVED = {
    "onnxruntime": ("onnxruntime", "model.onnx", "KIND_CPU", ""),
    "openvino": ("onnxruntime", "model.onnx", "KIND_CPU", OPENVINO),
    "tensorrt": ("tensorrt", "model.plan", "KIND_GPU", ""),
}
CONFIG = """\
{comments}
name: {name}
backend: {backend}
max_batch_size: {max_batch_size}
input [ {{ name: "input" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: {labels} }} ]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {delay}
}}
instance_group [ {{ count: {instances} kind: {kind} }} ]
{more}
"""


class Triton(Config):
    """How the server forms batches of the requests that it gets.

    max_batch_size      largest batch; an engine that was built for a range of batches has its own
    preferred           batches that run as soon as there are enough requests; those above the largest are left out
    max_queue_delay_us  how long a request waits for others otherwise, in microseconds
    instances           copies of the network that run at the same time
    """

    max_batch_size: int = Field(default=32, gt=0)
    preferred: tuple[PositiveInt, ...] = (4, 8, 16, 32)
    max_queue_delay_us: NonNegativeInt = 1000
    instances: int = Field(default=1, gt=0)


def serves(target: str) -> bool:
    """Whether Triton has a backend for the engines of `target`."""
    return target in SERVED


def triton(config: Triton, out: Path, *, engine: Path, images: Path, target: str, name: str) -> dict[str, Any]:
    """Write `out`/`name`, which a Triton server started with --model-repository=`out` serves as the model `name`.

    `engine` is a finished build of `target`, one that `serves` knows; `images` the index stage. Raises ValueError for a
    name that no folder can have.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"model name {name!r}: expected one that a folder can have, without '/'")
    backend, file, kind, more = SERVED[target]
    built = json.loads((engine / "manifest.json").read_text())["metrics"]
    dataset = Split(images, "test").dataset
    largest = int(built["batches"][-1]) if "batches" in built else config.max_batch_size

    folder = out / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(engine_file(engine), folder / "1" / file)
    write_beside(folder, dataset)
    text = CONFIG.format(
        comments="\n".join(f"# {line}" for line in comments(target, built, dataset)),
        name=quoted(name),
        backend=quoted(backend),
        max_batch_size=largest,
        dims=", ".join(map(str, dataset["input_shape"])),
        classes=len(dataset["classes"]),
        labels=quoted(LABELS),
        preferred=", ".join(map(str, preferred(config, largest))),
        delay=config.max_queue_delay_us,
        instances=config.instances,
        kind=kind,
        more=more,
    )
    (folder / "config.pbtxt").write_text(text.rstrip("\n") + "\n", encoding="ascii")
    return {"name": name, "backend": backend, "max_batch_size": largest}


def preferred(config: Triton, largest: int) -> list[int]:
    """The preferred batches up to `largest`; only `largest` where there are none."""
    return sorted({batch for batch in config.preferred if batch <= largest}) or [largest]


def comments(target: str, built: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
    """Information for those who write a client or run the server."""
    lines = [
        f"{target} engine, {built['precision']}, SHA-256 {built['sha256']}",
        "The client sends images as float32 [N, C, H, W], preprocessed by preprocess.py of the bundle with preprocess.json",
        "beside this file:",
        json.dumps(dataset["preprocess"]),
    ]
    if target == "tensorrt":
        lines.append(f"Built by {built['runtime']}: needs a Triton with the same TensorRT, and the same kind of GPU.")
    if target == "openvino":
        lines.append("Needs a Triton whose onnxruntime backend contains OpenVINO, as its builds for x86-64 do by default.")
    if target == "openvino" and built["precision"] in ("fp16", "bf16"):
        lines.append("Computed in float32 here, not in the 16-bit floats of the report: the accelerator has no such option.")
    return lines


def quoted(text: str) -> str:
    """A string of protobuf's text format; what is not printable ASCII becomes octal escapes of its UTF-8."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').encode()
    return '"' + re.sub(rb"[^ -~]", lambda byte: b"\\%03o" % byte[0][0], escaped).decode("ascii") + '"'
