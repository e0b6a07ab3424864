"""The same work in this process, and on several that torchrun starts.

`MODULE.WORK` is a dict of functions(given, out) -> a value that JSON has. `given` and `out` are folders.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from core import ranks

PROJECT = Path(__file__).resolve().parents[1]
Work = dict[str, Callable[[Path, Path], Any]]


def torchrun(processes: int, *command: str) -> list[str]:
    """The command line that starts so many processes of `python -m command`."""
    launcher = [sys.executable, "-m", "pipeline.torchrun", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, "-m", *command]


def on_processes(processes: int, module: str, given: Path, out: Path) -> dict[str, Any]:
    """The results of all WORK of `module`, by name. The processes must print nothing but progress."""
    command = torchrun(processes, "tests.several", module, str(given), str(out))
    # The command itself sets the second variable before it imports torch.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


@contextmanager
def float32() -> Iterator[None]:
    """Inside, trainings are in float32: bf16 rounds the gradient of every part of a batch, which is more than 1e-4."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    with patch.multiple(torch.cpu, **{name: lambda: False for name in names}):
        yield


def in_this_process(module: str, given: Path, out: Path) -> dict[str, Any]:
    """The results of all WORK of `module`, by name; each has a folder in `out`."""
    work: Work = importlib.import_module(module).WORK
    found = {}
    with float32():
        for name, function in work.items():
            (out / name).mkdir()
            found[name] = json.loads(json.dumps(function(given, out / name)))
    return found


def main() -> None:
    module, given, out = sys.argv[1:]
    with float32(), ranks.joined():
        found = in_this_process(module, Path(given), Path(out))
        (Path(out) / "results.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
