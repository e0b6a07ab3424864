"""One file per engine. A new file in this folder is a new target: nothing else has to be edited.

A target module has
  REQUIRES       the packages it needs
  READS          "onnx" or "checkpoint": what `build` is given
  PLACEMENT      how Q/DQ nodes are placed for it, None when it has no INT8
  UNTIMED        "int8" or "fp16": the engine that ships where none can be timed
  Options        its part of the recipe, [targets.<name>]
  unavailable()  why an engine cannot be built here, None when it can
  cannot_run()   why a built engine cannot be run here, None when it can
  half()         the 16-bit floats it computes in here, "fp16" or "bf16"; None when it has none
  platform()     what a build and a measurement depend on
  build(options, out, *, model, images)  a stage: writes the engine, returns `described(…)`
  runner()       the source of the bundle's runner.py, which opens the engine on the device
  load(engine, threads)                  the engine as a function float32 [N, C, H, W] -> logits [N, classes]
  prepare        None, or a stage (options, out, *, model): files from which the device builds, from a float32 Q/DQ file
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from core.config import Config
from core.placement import Placement

REFERENCE = "torch"  # always measured, never shipped


class Target(Protocol):
    REQUIRES: tuple[str, ...]
    READS: str
    PLACEMENT: Placement | None
    UNTIMED: str
    Options: type[Config]
    prepare: Callable[..., dict[str, Any]] | None

    def unavailable(self) -> str | None: ...
    def cannot_run(self) -> str | None: ...
    def half(self) -> str | None: ...
    def platform(self) -> dict[str, Any]: ...
    def build(self, options: Any, out: Path, *, model: Path, images: Path) -> dict[str, Any]: ...
    def runner(self) -> str: ...
    def load(self, engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]: ...


def names() -> list[str]:
    """The names of all targets, the reference first."""
    found = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return sorted(found, key=lambda name: (name != REFERENCE, name))


def get(name: str) -> Target:
    """The target `name`.

    Raises ValueError that lists the known ones when there is no such file.
    """
    if name not in names():
        raise ValueError(f"unknown target {name!r}; known targets: {', '.join(n for n in names() if n != REFERENCE)}")
    return cast(Target, importlib.import_module(f"{__name__}.{name}"))
