"""engine -> what goes to the device: engine, preprocessing, labels, golden logits, infer.py, verify.py, its runtime."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from pydantic import Field

import core.cpu
import data.preprocess
from core import hardware
from core.config import Config
from core.digest import file_digest
from core.ort import open_session
from core.profile import Profile, here
from data.loader import Split
from models.sidecar import write_beside

DEVICE = Path(__file__).parent / "device"


class Bundle(Config):
    """`images` golden images whose files have at most `megabytes` together. `tolerance` is the largest difference of any
    logit, as a share of the largest one; `tolerance_elsewhere` replaces it where another runtime computed the expected logits.
    `golden_original`: the golden images of a folder are the user's own files, which photographs often say in their metadata
    where and by whom they were taken. Without it, they are PNG files of the pixels alone.

    Rounding differs between instruction sets and GPUs, so logits are compared with a tolerance, preprocessing exactly. The
    INT8 resnet50 of recipes/resnet101.toml differs by up to 0.04 between the orders in which ONNX Runtime can compute it.
    """

    images: int = Field(default=16, gt=0)
    megabytes: float = Field(default=20, gt=0)
    golden_original: bool = False
    tolerance: float = 0.05
    tolerance_elsewhere: float = 0.1


class BundleOf(Bundle):
    """The same for one device.

    profile     that the engine was made for
    threads     that the engine was timed with, and that it runs with on the device; None: one per core of the device
    requires    the packages of the runtime
    """

    profile: Profile = Field(default_factory=here)
    threads: int | None = None
    requires: tuple[str, ...] = ()


def bundle(
    config: BundleOf,
    out: Path,
    *,
    engine: Path,
    model: Path,
    images: Path,
    runner: Callable[[], str],
    load: Callable[[Path, int], Callable[[np.ndarray], np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Copy the files of the build `engine` to `out`, and add what runs and verifies it on the device.

    `load` opens the engine, which computes the expected logits. Where it cannot run here, `load` is None, and ONNX Runtime
    computes them from `model`/model.onnx, the network in float32.
    """
    shutil.copytree(engine, out, ignore=shutil.ignore_patterns("manifest.json"), copy_function=shutil.copy, dirs_exist_ok=True)
    file = engine_file(engine)
    split = Split(images, "test")
    files = golden_files(config, split)
    inputs = split.__getitems__(list(files))[0].numpy()
    run = load(engine, config.threads or hardware.cores()) if load else reference(model / "model.onnx")
    logits = np.concatenate([run(x[None]) for x in inputs])
    encoded: dict[str, Any] = {f"image{k}": np.frombuffer(content, np.uint8) for k, content in enumerate(files.values())}
    np.savez_compressed(out / "golden.npz", inputs=inputs, logits=logits, pillow=np.array(PIL.__version__), **encoded)

    write_beside(out, split.dataset)
    tolerance = config.tolerance if load else config.tolerance_elsewhere
    runtime = {package: installed(package) for package in config.requires}
    about = {
        "engine": file.name,
        "sha256": file_digest(file),
        "tolerance": tolerance,
        "made_for": {"device": config.profile.name or None, "cpu": config.profile.cpu, "gpu": config.profile.gpu},
        "runtime": runtime,
        "threads": config.threads,
    }
    (out / "bundle.json").write_text(json.dumps(about, indent=1))
    lines = [package if number is None else f"{package}=={number}" for package, number in runtime.items()]
    (out / "requirements.txt").write_text("\n".join([*lines, "numpy", "pillow", ""]))
    (out / "runner.py").write_text(runner())
    for source in (DEVICE / "infer.py", DEVICE / "verify.py", Path(data.preprocess.__file__), Path(core.cpu.__file__)):
        shutil.copy(source, out / source.name)
    return {"golden_images": len(files), "tolerance": tolerance, "answers": "engine" if load else "onnxruntime"}


def installed(package: str) -> str | None:
    """The version of the package here; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def golden_files(config: Bundle, split: Split) -> dict[int, bytes]:
    """{index: file} of images spread over `split`. Only the smallest ones, at least one, if all together are too large.

    Files and not inputs of the network, because the device's preprocessing is checked as well. Only the user's own files
    (`golden_original`) also check its decoders of JPEG and other formats, its conversion of colours and its EXIF rotation: the
    PNG files have the pixels after these steps.
    """
    spread = np.linspace(0, len(split) - 1, min(config.images, len(split))).astype(int).tolist()
    file = split.original if config.golden_original else split.encoded
    files = {i: file(i) for i in spread}
    by_size = sorted(spread, key=lambda i: len(files[i]))
    totals = np.cumsum([len(files[i]) for i in by_size])
    count = max(1, int((totals <= config.megabytes * 1e6).sum()))
    return {i: files[i] for i in sorted(by_size[:count])}


def reference(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    session = open_session(file, optimize=False)
    return lambda x: np.asarray(session.run(None, {"input": x})[0])


def engine_file(engine: Path) -> Path:
    """The file that a finished build stage names as its engine."""
    manifest = json.loads((engine / "manifest.json").read_text())
    return engine / str(manifest["metrics"]["file"])


def device_code() -> dict[str, str]:
    """{file: SHA-256} of the files that are copied to the device: a bundle is out of date when one changes."""
    return {file.name: file_digest(file) for file in sorted(DEVICE.iterdir()) if file.is_file()}


def device_runner(name: str) -> str:
    """The source of runner.py for the device."""
    return (DEVICE / f"runner_{name}.py").read_text()
