"""engine -> what goes to the device: engine, preprocessing, labels, golden answers, infer.py and verify.py."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import data.preprocess
from data.loader import Split
from models.sidecar import write_beside
from pipeline import hardware
from pipeline.config import Config
from pipeline.stage import file_digest

DEVICE = Path(__file__).parent / "device"


class Bundle(Config):
    """`images` golden images; `tolerance` is the largest difference of any logit, as a share of the largest one.

    Rounding differs between instruction sets and GPUs, so answers are compared with a tolerance, preprocessing exactly.
    """

    images: int = 16
    tolerance: float = 0.05


def bundle(
    config: Bundle,
    out: Path,
    *,
    engine: Path,
    model: Path,
    images: Path,
    runner: Callable[[], str],
    load: Callable[[Path, int], Callable[[np.ndarray], np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Gather the bundle in `out`. Expected logits are what the engine itself answers here, opened by `load`.

    Where it cannot run here they come from `model`/model.onnx, which it was built of, in ONNX Runtime.
    """
    file = engine_file(engine)
    shutil.copy(file, out / file.name)
    split = Split(images, "test")
    chosen = np.linspace(0, len(split) - 1, min(config.images, len(split))).astype(int).tolist()
    raw = {f"image{k}": data.preprocess.pixels(split.image(i)) for k, i in enumerate(chosen)}
    inputs, _ = split.__getitems__(chosen)
    run = load(engine, hardware.cores()) if load else reference(model / "model.onnx")
    logits = np.concatenate([run(x[None]) for x in inputs.numpy()])
    np.savez_compressed(out / "golden.npz", inputs=inputs.numpy(), logits=logits, **raw)  # type: ignore[arg-type]

    write_beside(out, split.dataset)
    about = {"engine": file.name, "sha256": file_digest(file), "tolerance": config.tolerance}
    (out / "bundle.json").write_text(json.dumps(about, indent=1))
    (out / "runner.py").write_text(runner())
    for source in (DEVICE / "infer.py", DEVICE / "verify.py", Path(data.preprocess.__file__)):
        shutil.copy(source, out / source.name)
    return {"golden_images": len(chosen), "tolerance": config.tolerance, "answers": "engine" if load else "onnxruntime"}


def reference(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"input": x})[0])


def engine_file(engine: Path) -> Path:
    """The file that a finished build stage names as its engine."""
    manifest = json.loads((engine / "manifest.json").read_text())
    return engine / str(manifest["metrics"]["file"])


def device_code() -> dict[str, str]:
    """What the files that are copied to the device contain: a bundle is stale when they change."""
    return {file.name: file_digest(file) for file in sorted(DEVICE.glob("*.py"))}


def device_runner(name: str) -> str:
    """The source of runner.py for the device."""
    return (DEVICE / f"runner_{name}.py").read_text()
