"""One preprocessing: what training and measuring read is, bit for bit, what infer.py computes on the device."""

import io
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.digest import folder_digest
from data import preprocess
from data.index import Data, index
from data.loader import Split, batches
from tests.conftest import Small
from tests.data.conftest import Tree, picture


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


def test_an_image_as_a_file_is_the_same_image(folder: Path, small: Small, tmp_path: Path) -> None:
    index(Data(name=str(folder), input_size=48), tmp_path)
    for split in (Split(tmp_path, "test"), Split(small.images, "test")):
        for i in range(4):
            for file in (split.encoded(i), split.original(i)):
                assert preprocess.load(io.BytesIO(file), split.spec).tobytes() == split.image(i).tobytes()


def test_an_image_that_is_gone_is_named(tree: Tree, out: Path) -> None:
    root = tree({"test/cat": 4})
    index(Data(name=str(root)), out)
    split = Split(out, "test")
    Path(str(split.files[1])).unlink()
    for look in (split.encoded, split.original, split.image):
        with pytest.raises(ValueError, match=r"test/cat/\d+\.png of DATA my-images cannot be read .* restore it"):
            look(1)


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


def reference_window(size: tuple[int, int], resize: int, crop: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """torchvision's arithmetic, written down from its documentation: (width, height) after Resize(resize), and what
    CenterCrop(crop) does then: left, top of the crop, and the padding left, top, right, bottom that comes before it."""
    short, long = sorted(size)
    scaled = {short: resize, long: int(resize * long / short)} if short != long else {short: resize}
    width, height = scaled[size[0]], scaled[size[1]]
    left, top = max(0, crop - width) // 2, max(0, crop - height) // 2
    right, bottom = (max(0, crop - width) + 1) // 2, (max(0, crop - height) + 1) // 2
    padded = (width + left + right, height + top + bottom)
    return (width, height), (round((padded[0] - crop) / 2.0), round((padded[1] - crop) / 2.0), left, top, right, bottom)


@pytest.mark.parametrize("crop", (31, 32))
@pytest.mark.parametrize("resize", (32, 35, 36, 37))
@pytest.mark.parametrize("size", [(33, 47), (47, 33), (101, 100), (64, 64), (35, 200), (199, 35), (7, 5)])
def test_scaling_and_cropping_are_torchvisions(size: tuple[int, int], resize: int, crop: int) -> None:
    image = picture(1, size)
    scaled, (left, top, *_) = reference_window(size, resize, crop)
    expected = np.asarray(image.resize(scaled, Image.Resampling.BICUBIC))[top : top + crop, left : left + crop]
    spec = {"channels": 3, "input_size": crop, "resize": "shorter", "resize_size": resize, "interpolation": "bicubic"}
    assert np.array_equal(preprocess.pixels(preprocess.fit(image, spec)), expected)


@pytest.mark.parametrize("size", [(28, 28), (27, 31), (32, 40), (41, 20), (33, 35), (1, 1)])
def test_what_is_smaller_than_the_crop_is_padded_as_torchvision_does(size: tuple[int, int]) -> None:
    image = picture(1, size)
    _, (x, y, left, top, right, bottom) = reference_window(size, min(size), 32)
    padded = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)))
    fitted = preprocess.fit(image, {"channels": 3, "input_size": 32, "resize": "pad"})
    assert np.array_equal(preprocess.pixels(fitted), padded[y : y + 32, x : x + 32])


@pytest.mark.parametrize("how", ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"))
def test_squashing_keeps_the_whole_image(how: str) -> None:
    image = picture(1, (60, 33))
    spec = {"channels": 3, "input_size": 24, "resize": "squash", "interpolation": how}
    expected = image.resize((24, 24), getattr(Image.Resampling, how.upper()))
    assert preprocess.fit(image, spec).tobytes() == expected.tobytes()


RGB, GREY = {"channels": 3, "resize": "pad"}, {"channels": 1, "resize": "pad"}


@pytest.mark.parametrize("spec", (RGB, GREY))
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("L", "png"), ("LA", "png"), ("RGBA", "png"), ("P", "png"), ("P", "gif"), ("1", "png"), ("1", "tif"),
     ("CMYK", "tif"), ("RGB", "bmp"), ("RGBA", "webp")],
)  # fmt: skip
def test_every_colour_mode_becomes_the_networks(tmp_path: Path, spec: dict[str, Any], mode: str, suffix: str) -> None:
    image = picture(2, (20, 16)).convert(mode)
    file = tmp_path / f"x.{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == "webp" else {}
    image.save(file, **options)
    loaded = preprocess.load(file, spec)
    assert loaded.mode == preprocess.mode(spec) and loaded.size == (20, 16)
    assert loaded.tobytes() == image.convert(preprocess.mode(spec)).tobytes()


def test_a_palette_with_transparency_is_read_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = picture(2, (20, 16)).convert("P")
    image.save(tmp_path / "x.png", transparency=bytes(range(256)))
    assert preprocess.load(tmp_path / "x.png", RGB).tobytes() == image.convert("RGB").tobytes()
    assert not recwarn.list


@pytest.mark.parametrize(("kind", "suffix"), [("<u2", "png"), ("<u2", "tif"), (">u2", "tif"), ("<i4", "tif")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, kind: str, suffix: str) -> None:
    values = np.linspace(0, 65535, 320).astype(kind).reshape(16, 20)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    loaded = np.asarray(preprocess.load(tmp_path / f"x.{suffix}", GREY))
    assert np.array_equal(loaded, values // 256)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 0.5, np.float32), "floating-point pixels have no known range"),
        (np.full((4, 4), 70_000, np.int32), "70000 do not fit 16 bits"),
        (np.full((4, 4), -1, np.int32), "do not fit 16 bits"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(OSError, match=message):
        preprocess.load(tmp_path / "x.tif", RGB)


@pytest.mark.parametrize(("orientation", "turn"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_270)])
def test_images_are_turned_as_their_camera_was(tmp_path: Path, orientation: int, turn: Image.Transpose) -> None:
    image, exif = picture(3, (24, 16)), Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif"):
        image.save(tmp_path / f"x.{suffix}", exif=exif)
        assert preprocess.load(tmp_path / f"x.{suffix}", RGB).tobytes() == image.transpose(turn).tobytes()


def test_broken_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05")
    assert preprocess.load(tmp_path / "x.png", RGB).tobytes() == picture(3).tobytes()


@pytest.mark.parametrize("suffix", ("gif", "tif", "webp"))
def test_of_several_frames_the_first_counts(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second])
    red, _, blue = preprocess.load(tmp_path / f"x.{suffix}", RGB).getpixel((4, 4))  # type: ignore[misc]
    assert red > 200 and blue < 50


def test_broken_files_raise_oserror_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        buffer = io.BytesIO()
        picture(4, (20, 16)).save(buffer, form)
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for _ in range(100):
            broken = whole.copy()
            broken[rng.integers(0, min(len(broken), 200), 3)] = rng.integers(0, 256, 3)
            (tmp_path / "x").write_bytes(broken.tobytes())
            try:
                preprocess.load(tmp_path / "x", RGB)
                outcomes.add("read")
            except OSError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}


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
    with pytest.raises(ValueError, match="leaves no images for val"):
        index(Data(name=str(tmp_path / "one")), tmp_path / "out")


def test_loading_leaves_no_signal_handler_behind(folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    index(Data(name=str(folder), input_size=48), tmp_path)
    assert len(list(batches(Split(tmp_path, "test"), 2))) == 3
    assert signal.getsignal(signal.SIGCHLD) is before
