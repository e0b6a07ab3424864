"""One file per engine. A new file in this folder is a new target: nothing else has to be edited.

A target is an engine ("onnxruntime": on this machine), or an engine on a device ("onnxruntime@arm64", see core/profile.py).

A target module has
  REQUIRES       the packages it needs
  READS          "onnx" or "checkpoint": what `build` is given
  MADE_FOR       other devices that engines can be made for here: "cpu" (any), "gpu" (those with one; it builds there), or None
  Options        its part of the recipe, [targets.<name>]; an `EngineOptions`
  placement(profile)  how Q/DQ nodes are placed for it on such a device, None when it has no INT8
  untimed(profile)    "int8" or "fp16": the engine that ships where none can be timed
  half(profile)       the 16-bit floats it computes in there, "fp16" or "bf16"; None when it has none
  unavailable()  why an engine for this machine cannot be built here, None when it can
  cannot_run()   why a built engine cannot be run here, None when it can
  platform()     what a build and a measurement here depend on
  build(options, out, *, model, images)  a stage: writes the engine, returns `described(…)`
  runner()       the source of the bundle's runner.py, which opens the engine on the device
  load(engine, threads)                  the engine as a function float32 [N, C, H, W] -> logits [N, classes]
  prepare        None, or a stage (options, out, *, model): files from which the device builds, from a float32 Q/DQ file
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from core.engine_name import engine_and_device
from core.placement import Placement
from core.profile import PROFILES, Profile, profile_of
from export.targets._engine import EngineOptions

REFERENCE = "torch"  # always measured, never shipped


class Target(Protocol):
    REQUIRES: tuple[str, ...]
    READS: str
    MADE_FOR: Literal["cpu", "gpu"] | None
    Options: type[EngineOptions]
    prepare: Callable[..., dict[str, Any]] | None

    def unavailable(self) -> str | None: ...
    def cannot_run(self) -> str | None: ...
    def placement(self, profile: Profile) -> Placement | None: ...
    def untimed(self, profile: Profile) -> str: ...
    def half(self, profile: Profile) -> str | None: ...
    def platform(self) -> dict[str, Any]: ...
    def build(self, options: Any, out: Path, *, model: Path, images: Path) -> dict[str, Any]: ...
    def runner(self) -> str: ...
    def load(self, engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]: ...


def names() -> list[str]:
    """The names of all targets, the reference first."""
    found = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return sorted(found, key=lambda name: (name != REFERENCE, name))


def get(name: str) -> Target:
    """The engine of the target `name`.

    Raises ValueError that lists the known ones when there is no such file, or no such device for it.
    """
    engine, device = engine_and_device(name)
    if engine not in names():
        raise ValueError(f"unknown target {engine!r}; known targets: {', '.join(n for n in names() if n != REFERENCE)}")
    target = cast(Target, importlib.import_module(f"{__name__}.{engine}"))
    if device is not None and not suits(target, profile_of(device)):
        able = ", ".join(profile.name for profile in PROFILES.values() if suits(target, profile))
        raise ValueError(f"{engine} cannot be made for {device}; expected {able or f'{engine} alone, for this machine'}")
    return target


def suits(target: Target, profile: Profile) -> bool:
    """Whether engines for devices of `profile` can be made on another machine, or prepared for being built there."""
    return target.MADE_FOR == "cpu" or (target.MADE_FOR == "gpu" and profile.gpu is not None)
