"""One preprocessing: what training and measuring read is, bit for bit, what infer.py computes on the device."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import preprocess
from data.index import Data, index
from data.loader import Split, batches
from pipeline.stage import folder_digest


def picture(seed: int, size: tuple[int, int], mode: str) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 20), ("val", 3)):
        for label, mode in (("Äpfel", "RGB"), ("梨", "L")):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                suffix = ("jpg", "png", "webp")[i % 3]
                picture(i, (60 + 7 * i, 90 - i), mode).save(root / split / label / f"{i}.{suffix}")
    return root


def test_what_is_measured_is_what_the_device_computes(folder: Path, tmp_path: Path) -> None:
    dataset = index(Data(name=str(folder), input_size=48), tmp_path)
    assert dataset["classes"] == sorted(["Äpfel", "梨"])
    split = Split(tmp_path, "test")
    x, y = next(batches(split, 100))
    assert x.shape == (6, 3, 48, 48)
    files = [p for label in dataset["classes"] for p in sorted((folder / "val" / label).iterdir())]
    for row, path, label in zip(x.numpy(), files, y.tolist(), strict=True):
        assert dataset["classes"][label] == path.parent.name
        assert np.array_equal(row[None], preprocess.preprocess(preprocess.load(path, split.spec), split.spec))


def test_normalised_values_are_the_textbook_ones() -> None:
    spec = {"channels": 3, "input_size": 4, "resize": "pad", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    batch = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    expected = (batch / 255 - np.array(spec["mean"])) / np.array(spec["std"])
    np.testing.assert_allclose(preprocess.normalise(batch, spec), expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_padding_centres_the_image_on_black() -> None:
    spec = {"channels": 1, "input_size": 32, "resize": "pad"}
    image = Image.fromarray(np.full((28, 28), 255, np.uint8))
    array = preprocess.pixels(preprocess.fit(image, spec))[:, :, 0]
    assert array.shape == (32, 32) and array.sum() == 255 * 28 * 28
    assert array[2:30, 2:30].min() == 255


def test_changed_pixels_under_the_same_names_are_other_images(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    contents = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        index(Data(name=str(copy), input_size=48), tmp_path / str(i))
        contents.append(folder_digest(tmp_path / str(i)))
        path = next((copy / "train").rglob("*.png"))
        picture(99, (80, 80), "RGB").save(path)
    assert contents[0] != contents[1]


def test_a_folder_with_one_image_per_class_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "one" / split / "a").mkdir(parents=True)
        picture(0, (40, 40), "RGB").save(tmp_path / "one" / split / "a" / "0.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="leaves no images for train"):
        index(Data(name=str(tmp_path / "one")), tmp_path / "out")
