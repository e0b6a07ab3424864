"""engine -> its peak memory and the time to its first result (metrics), measured in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from core import hardware
from core.config import Config
from core.digest import PROJECT
from core.text import one_line
from measure.calls import Load, first

SECONDS = 300  # for one engine


class Alone(Config):
    """`threads` as in `Measure`; `engine` is its name in notes."""

    engine: str
    threads: int | None = Field(default=None, gt=0)


def alone(config: Alone, out: Path, *, load: Load, engine: Path, images: Path) -> dict[str, Any]:
    """{"memory_bytes", "first_inference_ms"}; only a note if the engine could not be measured.

    memory_bytes         the most resident memory that the engine adds to the process: its runtime, its weights, one image
    first_inference_ms   from opening the engine to the first result for one image; importing its runtime included
    """
    try:
        return in_own_process(load, engine, config.threads or hardware.cores(), first(images, 1))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
        return {"notes": [f"Memory and time to the first inference of {config.engine} could not be measured: {reason}"]}


def in_own_process(load: Load, engine: Path, threads: int, image: np.ndarray) -> dict[str, Any]:
    """The figures of the engine; `load` must be a function of a module. RuntimeError if the process fails."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "image.npy", image)
        command = [sys.executable, "-m", "measure.alone_process", load.__module__, load.__qualname__, str(engine.resolve()),
                   str(threads), f"{folder}/image.npy"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1])
    return dict(json.loads(done.stdout.splitlines()[-1]))
