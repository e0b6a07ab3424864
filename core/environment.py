"""Library versions, machine and date. Results depend on them, so every manifest and every run records them."""

import datetime
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from core import hardware

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "nvidia-modelopt", "numpy", "openvino", "tensorrt", "tensorrt-rtx")


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """{package: version} of Python and of the installed ones of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, instruction sets, the name of the first GPU (None without one) and operating system."""
    return {**hardware.cpu(), "gpu": (hardware.gpu() or {}).get("name"), "os": platform.platform()}
