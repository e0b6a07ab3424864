"""Run model.engine through trtexec, where Python has no tensorrt: one process per call, only good enough for verify.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

INSTALLED = "/usr/src/tensorrt/bin/trtexec"  # where JetPack puts it


def open_engine(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """float32 [1, C, H, W] -> logits [1, classes]."""
    plan = folder / "build.json"
    carries_code = plan.exists() and json.loads(plan.read_text())["options"]["version_compatible"]
    trtexec = shutil.which("trtexec") or shutil.which(INSTALLED)
    if trtexec is None:
        raise RuntimeError("neither the Python package tensorrt nor trtexec is installed; install one of them")

    def run(x: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as scratch:
            given, result = Path(scratch) / "input", Path(scratch) / "logits"
            np.ascontiguousarray(x, np.float32).tofile(given)
            shape = "x".join(map(str, x.shape))
            command = [trtexec, f"--loadEngine={folder / 'model.engine'}", f"--shapes=input:{shape}",
                       f"--loadInputs=input:{given}", f"--exportOutput={result}",
                       "--iterations=1", "--warmUp=0", "--duration=0"]  # fmt: skip
            if carries_code:  # without the option, trtexec refuses engines with a runtime of their own
                command.append("--versionCompatible")
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode or not result.exists():
                said = done.stdout.decode(errors="replace").splitlines()
                errors = [line for line in said if "[E]" in line] or said or ["it printed nothing"]
                raise RuntimeError(f"trtexec could not run model.engine: {errors[0].strip()}")
            tensors = {one["name"]: one for one in json.loads(result.read_text())}
            found = tensors["logits"]
            return np.array(found["values"], np.float32).reshape([int(n) for n in found["dimensions"].split("x")])

    return run
