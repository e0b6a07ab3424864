"""Copies among the judged images, judged images that train, and what is said about them before anything is trained."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.duplicates import CheckImages, check_images
from data.frames import frame_notes
from data.index import Data, index
from data.signatures import Signatures, copies, near, tiny, usual_distance
from tests.data.conftest import picture

Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Change:
    def encoded(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return encoded


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((round(image.width * 0.9), round(image.height * 0.9)), Image.Resampling.BILINEAR)


def off_by_one(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(int)
    return Image.fromarray(np.clip(pixels + np.random.default_rng(1).integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "the same": lambda image: image,
    "JPEG 95": jpeg(95),
    "JPEG 75": jpeg(75),
    "JPEG 50": jpeg(50),
    "90 %": smaller,
    "90 %, JPEG 75": lambda image: jpeg(75)(smaller(image)),
    "one grey level": off_by_one,
}


def write(root: Path, part: str, first: int, count: int, size: tuple[int, int] = (64, 48)) -> None:
    """`count` different pictures, by turns of two classes."""
    for i in range(first, first + count):
        file = root / part / "ab"[i % 2] / f"{i:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(i, size).save(file)


def checked(root: Path, tmp_path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The metrics of `check_images`, and which images count."""
    for name in ("images", "checked"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).mkdir()
    index(Data(name=str(root), input_size=32), tmp_path / "images")
    metrics = check_images(CheckImages(), tmp_path / "checked", images=tmp_path / "images")
    return metrics, np.load(tmp_path / "checked/duplicates.npz")["counted"]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_in_the_judged_images_count_once(tmp_path: Path, change: str) -> None:
    root = tmp_path / "data"
    write(root, "train", 1000, 40)
    write(root, "val", 0, 30)
    for file in sorted(root.glob("val/*/*.png")):
        for copy in range(4):
            CHANGES[change](Image.open(file)).save(file.with_name(f"{file.stem}-{copy}.png"))
    metrics, counted = checked(root, tmp_path)
    assert (metrics["images"], metrics["distinct"], metrics["counted"], counted.sum()) == (150, 30, 30, 30)
    (note,) = metrics["notes"]
    assert note.startswith(
        "150 test images are only 30 distinct ones: 120 are copies of others, the same or nearly (such as val/a/"
    )


@pytest.mark.parametrize("change", CHANGES)
def test_judged_images_that_train_do_not_count(tmp_path: Path, change: str) -> None:
    root = tmp_path / "data"
    write(root, "train", 1000, 60)
    write(root, "test", 0, 200)
    for i, file in enumerate(sorted(root.glob("train/a/*.png"))[:10]):
        CHANGES[change](Image.open(file)).save(root / f"test/a/new{i}.png")
    metrics, counted = checked(root, tmp_path)
    assert (metrics["in_training"], metrics["distinct"], counted.sum()) == (10, 210, 200)
    (note,) = metrics["notes"]
    assert note.startswith(
        "10 of 210 test images are also among the training or held-out images, the same or nearly (such as test/a/new"
    )
    assert "train/a/" in note and "do not count" in note


@pytest.mark.parametrize(
    ("fresh", "leaked", "counted"),
    [(200, 0, 200), (200, 2, 202), (200, 3, 200), (60, 40, 60), (40, 45, None), (10, 60, None), (0, 60, None), (20, 5, 20)],
)
def test_how_many_judged_images_may_train(tmp_path: Path, fresh: int, leaked: int, counted: int | None) -> None:
    root = tmp_path / "data"
    write(root, "train", 1000, 70)
    write(root, "val", 0, fresh)
    write(root, "val", 1000, leaked)
    if counted is None:
        with pytest.raises(
            ValueError, match=f"{leaked} of {fresh + leaked} test images are also training images.*put every image"
        ):
            checked(root, tmp_path)
        return
    metrics, counts = checked(root, tmp_path)
    assert (metrics["in_training"], counts.sum()) == (leaked, counted)
    assert len(metrics["notes"]) == (leaked > 0)


def test_a_few_copies_count_and_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root, "train", 1000, 40)
    write(root, "val", 0, 199)
    shutil.copy(root / "val/a/00000.png", root / "val/a/x.png")
    metrics, counted = checked(root, tmp_path)
    assert counted.all() and metrics["distinct"] == 199
    (note,) = metrics["notes"]
    assert note == ("1 of 200 test images is a copy of others, the same or nearly (such as val/a/00000.png and val/a/x.png); "
                    "all of them count.")  # fmt: skip


def test_without_training_images_calibrating_copies_are_only_counted(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root, "val", 0, 50)
    for file in sorted(root.glob("val/*/*.png")):
        shutil.copy(file, file.with_name(f"{file.stem}-copy.png"))
    metrics, counted = checked(root, tmp_path)
    assert metrics["in_training"] > 0 and 0 < metrics["distinct"] == counted.sum() < metrics["images"]
    assert any("calibration images" in note and note.endswith("They count in the verdict.") for note in metrics["notes"])


def test_parts_under_one_camera_are_no_copies(tmp_path: Path) -> None:
    """All images are the same scene with noise, and differ in a detail: far less than photographs do."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    scene = np.asarray(picture(0, (64, 64))).astype(float)
    for part, count in (("train", 60), ("val", 100)):
        for i in range(count):
            pixels = scene + rng.normal(0, 4, scene.shape)
            left, top = rng.integers(0, 48, 2)
            pixels[top : top + 16, left : left + 16] += 12
            file = root / part / "ab"[i % 2] / f"{i:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file)
    metrics, _ = checked(root, tmp_path)
    assert (metrics["distinct"], metrics["in_training"], metrics["notes"]) == (100, 0, [])


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fashion")
    index(Data(train_limit=5000, test_limit=3000), folder)
    return folder


def test_fashion_mnist_counts_whole(fashion: Path, tmp_path: Path) -> None:
    metrics = check_images(CheckImages(), tmp_path, images=fashion)
    assert metrics["counted"] == 3000 and metrics["distinct"] >= 2995 and metrics["in_training"] <= 5


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_of_fashion_mnist_are_found(fashion: Path, change: str) -> None:
    arrays, labels = np.load(fashion / "test.images.npy")[:1000, :, :, 0], np.load(fashion / "test.labels.npy")[:1000]
    images = [Image.fromarray(array) for array in arrays]

    def signed(of: list[Image.Image], first: int) -> Signatures:
        return Signatures(
            np.arange(first, first + len(of)).astype(np.uint64), np.stack([tiny(i) for i in of]).astype(np.float32)
        )

    known = signed(images, 0)
    pairs = copies(signed([CHANGES[change](image) for image in images], 5000), known, near(usual_distance(known, labels)))
    assert len(np.unique(pairs[pairs[:, 0] == pairs[:, 1], 0])) >= 950, "almost every one"
    assert np.sum(pairs[:, 0] != pairs[:, 1]) <= 5, "and hardly another"


@pytest.mark.parametrize(("kinds", "said"), [("ab", []), ("a", ["1 class has no test image and cannot be judged: b."])])
def test_a_class_without_test_images_is_named(tmp_path: Path, kinds: str, said: list[str]) -> None:
    root = tmp_path / "data"
    write(root, "train", 1000, 40)
    write(root, "val", 0, 60)
    for kind in {"a", "b"} - set(kinds):
        shutil.rmtree(root / "val" / kind)
    assert checked(root, tmp_path)[0]["notes"] == said


def numbered(forms: list[str], each: int, part: str, step: int = 1) -> list[str]:
    return [f"{part}/{form.format(number)}" for form in forms for number in range(0, each * step, step)]


def noise(count: int, drift: float | None = None) -> Signatures:
    """Independent images, or such that change by `drift` grey levels from one to the next."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (count, 192))
    if drift is not None:
        pixels = pixels[0] + np.cumsum(rng.normal(0, drift, (count, 192)), axis=0)
    return Signatures(np.arange(count, dtype=np.uint64), pixels.astype(np.float32))


@pytest.mark.parametrize(
    ("forms", "training", "drift", "warned"),
    [
        (["a/cam1_{:06}.jpg", "a/cam2_{:06}.jpg"], True, None, True),
        (["a/cam1_{:06}.jpg", "a/cam2_{:06}.jpg"], False, None, False),  # recordings of their own
        (["a/{:05}.png"], True, None, False),
        (["a/img_{}.jpg"], True, None, False),
        (["a/IMG_{}.jpg", "a/DSC_{}.jpg"], True, None, False),  # how cameras number
        (["cat/cat_{}.jpg", "dog/dog_{}.jpg"], True, None, False),  # a stem for a class
        (["a/{}x.png"], True, None, False),  # no running number
        (["a/clip_{:05}.png"], False, 2.0, True),  # one follows the other
    ],
)
def test_frames_of_recordings(forms: list[str], training: bool, drift: float | None, warned: bool) -> None:
    names = numbered(forms, 50, "val")
    labels = np.asarray([name.split("/")[1] == "dog" for name in names]).astype(int)
    known = numbered(forms, 50, "train", step=3) if training else ["train/a/other_1.png"]
    notes = frame_notes(names, labels, noise(len(names), drift), 100.0, known)
    assert len(notes) == warned
    assert all("independent" in note for note in notes)
