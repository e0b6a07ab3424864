"""Every name that we look up in the imported library exists: in the stubs of TensorRT 10, and in TensorRT-RTX as installed.

The library comes as an argument without a type, so mypy does not see these names.
"""

import ast
import sys
from pathlib import Path

import pytest

from export.device import runner_trt, trt_build
from export.targets import _trt, tensorrt_rtx

STUBS = Path(sys.prefix) / "stubs/tensorrt_bindings/tensorrt.pyi"
OF_THE_MODULE = ("__name__", "__version__")
# Looked up where hasattr finds them, or in the target of TensorRT-RTX alone.
ONLY_RTX = {
    "EngineValidity", "EngineInvalidityDiagnostics", "DynamicShapesKernelSpecializationStrategy", "CudaGraphStrategy",
    "ComputeCapability",
}  # fmt: skip
ONLY_TENSORRT = {"MemoryPoolType.WORKSPACE"}


def looked_up() -> set[str]:
    """ "Class" and "Class.MEMBER", of all that is read from `trt`."""
    found = set()
    for module in (trt_build, runner_trt, _trt, tensorrt_rtx):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("trt."):
                found.add(".".join(ast.unparse(node).split(".")[1:3]))
    return {name for name in found if name.split(".")[0] not in OF_THE_MODULE and not name.endswith("__")}


def test_they_are_in_tensorrt_10() -> None:
    if not STUBS.exists():
        pytest.skip("make check installs the stubs of TensorRT")
    classes = [node for node in ast.parse(STUBS.read_text()).body if isinstance(node, ast.ClassDef)]
    members = {
        f"{one.name}.{ast.unparse(line.target)}" for one in classes for line in one.body if isinstance(line, ast.AnnAssign)
    }
    known = {one.name for one in classes} | members
    assert {name for name in looked_up() if name not in known and name.split(".")[0] not in ONLY_RTX} == set()


def test_they_are_in_tensorrt_rtx() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")

    def exists(name: str) -> bool:
        kind, _, member = name.partition(".")
        return hasattr(rtx, kind) and (not member or hasattr(getattr(rtx, kind), member))

    assert {name for name in looked_up() if not exists(name)} <= ONLY_TENSORRT
