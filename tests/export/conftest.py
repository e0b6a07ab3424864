"""Bundles for the device, and a place to run them where neither torch nor this project is installed."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.place import place_qdq
from data.index import Data, index
from export import targets
from export.bundle import BundleOf, bundle
from tests.conftest import Small
from tests.export import photographs
from tests.placements import placement_of

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Engines = Callable[[str], tuple[Path, Path]]
MakeBundle = Callable[..., Path]
ONNXRUNTIME = pytest.mark.parametrize("runtime", ["onnxruntime"])  # where the runtime does not matter


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python in the folder `at` with nothing installed but `packages`: torch and this project are not there."""
    root = tmp_path_factory.mktemp("device")

    def run(at: Path, packages: tuple[str, ...], *command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        installed = root / "-".join(packages)
        if not installed.exists():
            installed.mkdir()
            for package in packages:
                found = importlib.metadata.distribution(package)
                for name in {file.parts[0] for file in found.files or ()} - {".."}:
                    (installed / name).symlink_to(Path(str(found.locate_file(name))))
        # -S: without site-packages, and so without what the .pth files there add.
        environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
        line = [sys.executable, "-S", *command]
        return subprocess.run(line, cwd=at, env=environment, input=given, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def engines(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """By runtime: the finished build of an INT8 engine, and the folder with the ONNX file that it is made of."""
    built: dict[str, tuple[Path, Path]] = {}

    def of(name: str) -> tuple[Path, Path]:
        target = targets.get(name)
        if reason := target.unavailable():
            pytest.skip(reason)
        if name not in built:
            built[name] = engine, placed = tmp_path_factory.mktemp("engine"), tmp_path_factory.mktemp("placed")
            place_qdq(placement_of(name), placed, model=small.onnx, ranges=small.ranges)
            metrics = target.build(target.Options(), engine, model=placed, images=small.images)
            (engine / "manifest.json").write_text(json.dumps({"metrics": metrics}))
        return built[name]

    return of


@pytest.fixture(params=("onnxruntime", "openvino"))
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(runtime: str, small: Small, engines: Engines, tmp_path: Path) -> Path:
    """A bundle of Fashion-MNIST for that runtime, to be tampered with."""
    engine, placed = engines(runtime)
    out, target = tmp_path / "bundle", targets.get(runtime)
    out.mkdir()
    bundle(BundleOf(), out, engine=engine, model=placed, images=small.images, runner=target.runner, load=target.load)
    return out


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs in every kind of file."""
    root = tmp_path_factory.mktemp("album")
    photographs.write(root / "test/anything")
    return root


@pytest.fixture
def of_album(album: Path, small: Small, engines: Engines, tmp_path: Path) -> MakeBundle:
    """Makes a bundle with photographs as its golden images."""

    def of(**config: Any) -> Path:
        images, out = tmp_path / "images", tmp_path / "bundle"
        images.mkdir()
        out.mkdir()
        index(Data(name=str(album), channels=1, input_size=32), images)
        engine, placed = engines("onnxruntime")
        bundle(BundleOf(**config), out, engine=engine, model=placed, images=images, runner=targets.get("onnxruntime").runner)
        return out

    return of


def golden(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "golden.npz") as content:
        return dict(content)
