"""engines + images -> the predictions of a device (predictions.npz of every engine), and whether verify.py accepts it."""

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from core.config import Config
from core.console import progress
from data.loader import Split
from measure.device.link import Member, Message, Reach
from measure.device.pixels import encoded, parts_of, sampled, scaling

INDICES = "images.npy"  # which test images were predicted


class DeviceImages(Config):
    """`images`: the number of test images, evenly spaced; None: all. `device`: its name in notes."""

    device: str
    images: int | None = Field(default=None, gt=0)


def predict_on_device(
    config: DeviceImages, out: Path, *, reach: Reach, engines: dict[str, Path], images: Path
) -> dict[str, Any]:
    """Predict test images on a device. `engines` are bundles by name, such as "onnxruntime/student-int8".

    `reach` does a job there (measure/device/link.py). `out`/<engine>/predictions.npz is as of measure/engines.py `predict`;
    `out`/images.npy has the indices of the images. Parts that a device has predicted are not sent again after an interruption.
    Raises DeviceError.
    """
    split = Split(images, "test")
    indices = sampled(split, config.images)
    parts = parts_of(indices)
    done = out / "parts"
    done.mkdir(exist_ok=True)
    scale, offset = scaling(split.spec)
    job = {"do": "predict", "engines": described(engines), "scale": scale, "offset": offset}

    def members() -> Iterator[Member]:
        yield from files_of(engines)
        yield "images/ready", b""
        left = [k for k in range(len(parts)) if not (done / f"{k}.npz").exists()]
        for k, content in zip(left, encoded(split, [parts[k] for k in left]), strict=True):
            yield f"images/{k}", content

    verified, refused = {}, {}
    with progress() as bar:
        task = bar.add_task("accuracy on the device", total=len(parts), completed=len(list(done.glob("*.npz"))))
        for message in reach(job, members):
            if "chunk" in message:
                save(done / f"{message['chunk']}.npz", message["top5"])
                bar.advance(task)
            elif "verified" in message:
                verified[message["verified"]] = {"ok": message["ok"], "line": message["line"]}
            elif "refused" in message:
                refused[message["refused"]] = message["reason"]
    found = [read(done / f"{k}.npz") for k in range(len(parts))]
    for name in engines:
        if name in refused or any(name not in part for part in found):
            refused.setdefault(name, "it did not run there on every image")
            continue
        top5 = np.concatenate([part[name] for part in found])
        (out / name).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out / name / "predictions.npz", top5=top5, labels=split.labels[indices])
    np.save(out / INDICES, indices)
    shutil.rmtree(done)
    notes = [
        f"verify.py of {name} fails on {config.device}: {each['line']}" for name, each in verified.items() if not each["ok"]
    ]
    return {"n": len(indices), "of": len(split), "verified": verified, "refused": refused, "notes": notes}


def described(engines: Mapping[str, Path]) -> dict[str, Message]:
    """For the device: the folder of each engine there, and the SHA-256 that its file must have."""
    return {name: {"folder": f"engines/{k}", **engine_of(folder)} for k, (name, folder) in enumerate(engines.items())}


def engine_of(folder: Path) -> Message:
    """The name and the SHA-256 of the engine in a bundle."""
    about = json.loads((folder / "bundle.json").read_text())
    return {"file": about["engine"], "sha256": about["sha256"]}


def files_of(engines: Mapping[str, Path]) -> Iterator[Member]:
    """The files of the bundles, without the manifest of the stage."""
    for k, folder in enumerate(engines.values()):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "manifest.json":
                yield f"engines/{k}/{path.relative_to(folder)}", path


def save(path: Path, top5: Mapping[str, str]) -> None:
    """`path` appears whole or not at all."""
    arrays: dict[str, Any] = {name: np.frombuffer(base64.b64decode(text), "<i4").reshape(-1, 5) for name, text in top5.items()}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)
