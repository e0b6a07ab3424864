"""What a bundle holds: the user's images, the pipeline's own preprocessing, all that the build left."""

import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from core import hardware
from core.digest import file_digest
from data import preprocess
from data.index import Data, index
from data.loader import Split
from export import targets
from export.bundle import Bundle, BundleOf, bundle, golden_files
from models.sidecar import write_beside
from tests.conftest import Small
from tests.export import photographs
from tests.export.conftest import ONNXRUNTIME, Engines, MakeBundle, Run, golden

PREPROCESSINGS: list[dict[str, Any]] = [
    {"input_size": 64, "resize": 73},
    {"input_size": 64, "crop_pct": 0.95, "interpolation": "bicubic"},
    {"input_size": 49, "resize": "squash", "interpolation": "lanczos"},
    {"input_size": 120, "resize": "pad"},
    {"input_size": 64, "crop_pct": 1.0, "interpolation": "nearest", "channels": 1},
    {"input_size": 33, "resize": "squash", "interpolation": "box", "mean": (0.5,), "std": (0.5,)},
    {"input_size": 64, "interpolation": "hamming", "channels": 1},
]
# On the device: [[a preprocess.json, [image files]], …] from stdin -> what the network would be given, in an .npz.
PREPARE = """
import json, sys
import numpy as np
from preprocess import load, preprocess

arrays = []
for file, images in json.load(sys.stdin):
    spec = json.load(open(file))
    arrays.append(np.concatenate([preprocess(load(image, spec), spec) for image in images]))
np.savez(sys.argv[1], *arrays)
"""


def test_preprocessing_in_the_bundle_is_the_pipelines_bit_for_bit(
    album: Path, of_album: MakeBundle, device: Run, tmp_path: Path
) -> None:
    """On files of every kind; the one side is what is measured here, the other runs where this project is not there."""
    expected, work = [], []
    for k, config in enumerate(PREPROCESSINGS):
        images, beside = tmp_path / f"images{k}", tmp_path / f"beside{k}"
        images.mkdir()
        beside.mkdir()
        dataset = index(Data(name=str(album), **config), images)
        for part in ("train", "test"):
            split = Split(images, part)
            expected.append(split.__getitems__(list(range(len(split))))[0].numpy())
            work.append([str(beside / "preprocess.json"), [split.files[i] for i in range(len(split))]])
        assert sum(dataset["splits"].values()) == len(list(album.rglob("*.*")))
        write_beside(beside, split.dataset)
    done = device(of_album(), ("numpy", "pillow"), "-c", PREPARE, str(tmp_path / "prepared.npz"), given=json.dumps(work))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "prepared.npz") as prepared:
        for k, wanted in enumerate(expected):
            got = prepared[f"arr_{k}"]
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("exif", ["apply", "ignore"])
@pytest.mark.parametrize("channels", [1, 3])
def test_golden_images_have_the_pixels_of_the_files_and_nothing_else(
    album: Path, exif: str, channels: int, tmp_path: Path
) -> None:
    """Of every kind of file (rotated, 16 bits, palettes, transparency, CMYK), and of a photograph with GPS data."""
    data = tmp_path / "album"
    for part in ("train", "test"):
        shutil.copytree(album / "test", data / part)
    place = b"52 deg 31' N"
    photographs.with_place(data / "test/anything/place.jpg", place)
    for file in (data / "test/anything/place.jpg", data / "test/anything/place.png"):
        assert place in file.read_bytes()
    images = tmp_path / "images"
    images.mkdir()
    index(Data(name=str(data), channels=channels, input_size=32, exif=exif), images)
    split = Split(images, "test")
    files = golden_files(Bundle(images=len(split)), split)
    assert len(files) == len(split) == len(list((data / "test").rglob("*.*")))
    for k, content in files.items():
        found = Image.open(BytesIO(content))
        assert (found.format, found.mode) == ("PNG", "L" if channels == 1 else "RGB")
        assert not found.getexif() and not found.info and place not in content
        again = preprocess.preprocess(preprocess.load(BytesIO(content), split.spec), split.spec)
        assert again.tobytes() == preprocess.preprocess(preprocess.load(split.files[k], split.spec), split.spec).tobytes()


def test_the_device_verifies_golden_images_without_metadata(of_album: MakeBundle, device: Run) -> None:
    folder = of_album(images=100)
    assert len(golden(folder)["inputs"]) == len(Split(folder.parent / "images", "test"))
    done = device(folder, ("numpy", "pillow", "onnxruntime"), "verify.py")
    assert done.returncode == 0 and "preprocessing bit-identical" in done.stdout, done.stderr


def test_original_golden_images_are_the_users_files_byte_for_byte(of_album: MakeBundle, device: Run) -> None:
    folder = of_album(images=100, golden_original=True)
    content, split = golden(folder), Split(folder.parent / "images", "test")
    assert len(content["inputs"]) == len(split) > 10
    for k in range(len(split)):
        assert content[f"image{k}"].tobytes() == Path(split.files[k]).read_bytes()
    done = device(folder, ("numpy", "pillow", "onnxruntime"), "verify.py")
    assert done.returncode == 0, done.stderr


def test_golden_images_are_the_smallest_where_all_are_too_large(of_album: MakeBundle) -> None:
    folder = of_album(images=100, megabytes=0.1)
    split = Split(folder.parent / "images", "test")
    all_sizes = sorted(len(split.encoded(i)) for i in range(len(split)))
    content = golden(folder)
    sizes = sorted(content[f"image{k}"].size for k in range(len(content["inputs"])))
    assert 1 < len(sizes) < len(all_sizes) and sizes == all_sizes[: len(sizes)]
    assert sum(sizes) <= 100_000 < sum(all_sizes[: len(sizes) + 1])
    assert len(golden_files(Bundle(megabytes=0.0001), split)) == 1


def test_the_engine_tells_its_labels_and_preprocessing(made: Path) -> None:
    message = {entry.key: json.loads(entry.value) for entry in onnx.load(made / "engine.onnx").metadata_props}
    assert message["labels"] == (made / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert message["preprocess"] == json.loads((made / "preprocess.json").read_text())


@ONNXRUNTIME
def test_all_that_the_build_left_ships_with_its_modes(runtime: str, small: Small, engines: Engines, tmp_path: Path) -> None:
    engine, placed = engines(runtime)
    shutil.copytree(engine, tmp_path / "engine")
    (tmp_path / "engine/build.sh").write_text("#!/bin/sh\n")
    (tmp_path / "engine/build.sh").chmod(0o755)
    (tmp_path / "engine/legacy.onnx").write_bytes(b"older")
    out = tmp_path / "bundle"
    out.mkdir()
    bundle(BundleOf(), out, engine=tmp_path / "engine", model=placed, images=small.images, runner=targets.get(runtime).runner)
    assert {path.name for path in out.iterdir()} == {
        "engine.onnx", "build.sh", "legacy.onnx", "bundle.json", "preprocess.json", "labels.txt", "golden.npz",
        "infer.py", "verify.py", "preprocess.py", "runner.py", "cpu.py", "requirements.txt",
    }  # fmt: skip
    assert os.access(out / "build.sh", os.X_OK) and not os.access(out / "legacy.onnx", os.X_OK)
    about = json.loads((out / "bundle.json").read_text())
    expected = Bundle().tolerance_elsewhere  # the engine did not compute the logits
    assert about == {
        "engine": "engine.onnx", "sha256": file_digest(engine / "engine.onnx"), "tolerance": expected, "runtime": {},
        "made_for": {"device": None, "cpu": hardware.kind(), "gpu": None}, "threads": None,
    }  # fmt: skip
