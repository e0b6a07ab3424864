"""Images with more than 8 bits are scaled by the bits they really have, and the device reads them in the same way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data import preprocess
from data.index import Data, index
from data.loader import Split
from models.sidecar import own_form
from tests.data.conftest import Tree
from tests.data.test_folder import network


def deep(tree: Tree, largest: float, kind: str, suffix: str) -> Path:
    """Grey images from 0 to `largest`; val/a/0 has the largest value, the images of train/ reach half of it."""
    root = tree({"train/a": 0, "val/a": 0})
    for i in range(4):
        Image.fromarray(np.linspace(0, largest / 2, 320).astype(kind).reshape(16, 20)).save(root / "train/a" / f"{i}.{suffix}")
    Image.fromarray(np.linspace(0, largest, 320).astype(kind).reshape(16, 20)).save(root / "val/a" / f"0.{suffix}")
    return root


def spec_of(out: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((out / "dataset.json").read_text())["preprocess"]
    return spec


@pytest.mark.parametrize(
    ("largest", "depth"),
    [(255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16), (65535, 16)],
)
@pytest.mark.parametrize(("kind", "suffix"), [("<u2", "png"), ("<u2", "tif"), (">u2", "tif"), ("<i4", "tif"), ("<f4", "tif")])
def test_the_real_depth(tree: Tree, out: Path, largest: int, depth: int, kind: str, suffix: str) -> None:
    root = deep(tree, largest, kind, suffix)
    found = index(Data(name=str(root), input_size=16, resize="pad"), out)
    spec = spec_of(out)
    assert spec["bit_depth"] == depth
    values = np.asarray(Image.open(root / "val/a" / f"0.{suffix}")).astype(np.float64)
    image = Split(out, "test").image(0)
    assert np.array_equal(np.asarray(image)[..., 0], values // 2 ** (depth - 8))
    assert preprocess.load(root / "val/a" / f"0.{suffix}", spec) == image  # what the device computes
    pixels = "floating-point pixels" if kind == "<f4" else "more than 8 bits per pixel"
    assert found["notes"] == [
        f"5 images of my-images with {pixels}: the largest value is {largest:,}, so all are read as {depth} bits "
        f"(0 … {2**depth - 1:,}); to change this, set data.bit_depth."
    ]


def test_floats_from_zero_to_one(tree: Tree, out: Path) -> None:
    found = index(Data(name=str(deep(tree, 1.0, "<f4", "tif"))), out)
    assert spec_of(out)["bit_depth"] == 0 and "values from 0 to 1" in found["notes"][0]
    pixels = np.asarray(Split(out, "test").image(0))
    assert pixels.min() == 0 and pixels.max() == 255
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    floats = Image.fromarray(grey.astype(np.float32) / 255)
    assert np.array_equal(np.asarray(preprocess.in_colour_mode(floats, {"channels": 1, "bit_depth": 0})), grey)


def test_a_depth_that_is_stated_is_kept(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = deep(tree, 4095, "<u2", "png")
    found = index(Data(name=str(root), bit_depth=16), out)
    assert spec_of(out)["bit_depth"] == 16 and np.asarray(Split(out, "test").image(0)).max() == 15
    assert found["notes"] == [
        "5 images of my-images with more than 8 bits per pixel: the largest value is 4,095; read as 16 bits (0 … 65,535), as "
        "data.bit_depth states."
    ]
    known = network(tmp_path / "n", 1, given={"bit_depth": 10})
    found = index(Data(name=str(root), choose_share=0), out, network=known)
    assert spec_of(out)["bit_depth"] == 10 and np.asarray(Split(out, "test").image(0)).max() == 255
    assert found["notes"][0].endswith("as data.bit_depth states; larger values become white (12 bits (0 … 4,095) are needed).")


def test_eight_bits_have_no_depth(tree: Tree, out: Path) -> None:
    index(Data(name=str(tree({"train/a": 3, "val/a": 1}))), out)
    assert "bit_depth" not in spec_of(out)


ROTATED = "2 of 6 images have an EXIF rotation"
APPLIED = "which is applied; if the network was trained on unrotated images, pass --exif ignore."
IGNORED = (
    "which is ignored, as in training with torchvision or timm; if the network was trained on upright images, pass --exif "
    "apply."
)


@pytest.mark.parametrize(
    ("with_network", "said", "new_classes", "exif", "message"),
    [
        (False, None, False, "apply", APPLIED),
        (True, None, False, "ignore", IGNORED),
        (True, "apply", False, "apply", APPLIED),
        (False, "ignore", False, "ignore", "which is ignored, "),
        (True, None, True, "apply", "which is applied; "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ("jpg", "png", "webp"))
def test_rotation(
    tree: Tree,
    out: Path,
    tmp_path: Path,
    with_network: bool,
    said: Any,
    new_classes: bool,
    exif: str,
    message: str,
    suffix: str,
) -> None:
    root = tree({"train/a": 3, "val/a": 1})
    tag, image = Image.Exif(), Image.fromarray(np.uint8(np.linspace(0, 255, 600)).reshape(20, 30)).convert("RGB")
    for i, orientation in enumerate((6, 1)):
        tag[preprocess.ORIENTATION] = orientation
        image.save(root / "val" / "a" / f"x{i}.{suffix}", exif=tag)
    tag[preprocess.ORIENTATION] = 3
    (root / "train" / "a" / "000.png").unlink()
    image.save(root / "train" / "a" / "000.png", exif=tag)
    known = network(tmp_path / "n", 1) if with_network else None
    found = index(Data(name=str(root), exif=said, new_classes=new_classes, choose_share=0), out, network=known)
    spec = spec_of(out)
    assert spec["exif"] == exif and any(note.startswith(f"{ROTATED}, {message}") for note in found["notes"])
    sizes = {Path(Split(out, "test").name(i)).stem: Split(out, "test").image(i).size for i in range(3)}
    assert sizes["x0"] == ((20, 30) if exif == "apply" else (30, 20)) and sizes["x1"] == (30, 20)
    assert preprocess.load(root / "val" / "a" / f"x0.{suffix}", spec).size == sizes["x0"]  # what the device computes


def test_specs_without_the_key_are_read_as_they_were_made(tmp_path: Path) -> None:
    spec = {"channels": 3, "input_size": 32, "resize": "shorter", "resize_size": 36, "interpolation": "bilinear"}
    assert own_form(spec, tmp_path)["exif"] == "apply"
    assert own_form(spec | {"exif": "ignore", "bit_depth": 12}, tmp_path) == {
        "channels": 3, "input_size": 32, "resize": 36, "interpolation": "bilinear", "exif": "ignore", "bit_depth": 12,
    }  # fmt: skip
