"""WebDataset: tar files as tools write them are read in place, and broken ones end in one line."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.duplicates import CheckImages, check_images
from data.index import Data, index
from data.loader import Split, batches
from tests.data.conftest import Tree, picture
from tests.data.test_folder import network

Member = tuple[str, bytes]
CLASSES = ("cat", "dog")


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def shard(file: Path, members: list[Member]) -> Path:
    """A tar file as `members` say: (name, content)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def by_number(i: int) -> list[Member]:
    return [(f"{i:06}.png", png(i)), (f"{i:06}.cls", f"{i % 2}\n".encode())]


def by_name(i: int) -> list[Member]:
    return [(f"./{i:06}.cls", CLASSES[i % 2].encode()), (f"./{i:06}.image.png", png(i)), (f"./{i:06}.txt", b"a picture")]


def by_json(i: int) -> list[Member]:
    return [(f"{i:06}.png", png(i)), (f"{i:06}.json", json.dumps({"id": i, "label": i % 2, "width": 24}).encode())]


def by_folder(i: int) -> list[Member]:
    return [(f"set/{CLASSES[i % 2]}/{i:06}.png", png(i))]


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Path]:
    """A folder with two shards for training (`train` images) and one for the test, named as `names` say."""

    def made(
        sample: Callable[[int], list[Member]] = by_number,
        names: tuple[str, ...] = ("set-train-0000.tar", "set-train-0001.tar", "set-validation-00.tar"),
        train: int = 40,
        tested: int = 10,
    ) -> Path:
        root = tmp_path / "my-shards"
        for name, first, last in zip(names, (0, train // 2, train), (train // 2, train, train + tested), strict=True):
            shard(root / name, [member for i in range(first, last) for member in sample(i)])
        return root

    return made


@pytest.mark.parametrize(
    ("sample", "classes"),
    [(by_number, ["0", "1"]), (by_name, ["cat", "dog"]), (by_json, ["0", "1"]), (by_folder, ["cat", "dog"])],
)
@pytest.mark.parametrize("names", [None, ("train/0.tar", "train/1.tar", "val/0.tar")])
def test_images_and_classes_are_those_of_the_samples(
    shards: Callable[..., Path], out: Path, sample: Callable[[int], list[Member]], classes: list[str], names: Any
) -> None:
    root = shards(sample, names) if names else shards(sample)
    found = index(Data(name=str(root), input_size=32, resize="pad"), out)
    assert found["classes"] == classes and found["splits"] == {"train": 38, "val": 2, "test": 10}
    assert found["trainable"] and found["labelled"]
    test = Split(out, "test")
    for i in range(10):
        assert test.image(i).tobytes() == picture(40 + i).tobytes()
        assert test.original(i) == png(40 + i)
    assert test.labels.tolist() == [0, 1] * 5
    assert test.name(0).startswith("val/0.tar/" if names else "set-validation-00.tar/")
    assert sum(len(x) for x, _ in batches(Split(out, "train"), 7, shuffle=True)) == 35
    (out / "checked").mkdir()
    assert check_images(CheckImages(), out / "checked", images=out)["counted"] == 10


def test_shards_and_folders_give_the_same_pixels(shards: Callable[..., Path], tree: Tree, out: Path, tmp_path: Path) -> None:
    root = tree({"train/cat": 20, "train/dog": 20, "val/cat": 5, "val/dog": 5})
    for number, split in enumerate(("train", "train", "val")):
        for i in range((0, 20, 40)[number], (20, 40, 50)[number]):
            for old in (root / split / CLASSES[i % 2]).glob("[0-9][0-9][0-9].png"):
                old.unlink()
            picture(i).save(root / split / CLASSES[i % 2] / f"{i:06}.png")
    index(Data(name=str(root)), out)
    other = tmp_path / "other"
    other.mkdir()
    index(Data(name=str(shards(by_folder))), other)
    pixels = []
    for folder in (out, other):
        split = Split(folder, "test")
        x, y = next(batches(split, 10))
        order = np.argsort([split.name(i).rpartition("/")[2] for i in range(10)])
        pixels.append((x[order], y[order]))
    assert (pixels[0][0] == pixels[1][0]).all() and (pixels[0][1] == pixels[1][1]).all()


def test_shards_without_splits_are_split_by_content(shards: Callable[..., Path], out: Path) -> None:
    root = shards(by_name, ("0.tar", "1.tar", "2.tar"))
    found = index(Data(name=str(root)), out)
    assert found["splits"] == {"train": 38, "val": 2, "test": 10}
    assert found["notes"][0].startswith("my-shards is not split into train/ and test/: 40 of its images are for training")
    assert "50 files have suffixes that are not of images and were left out (.txt)" in found["notes"]


def test_numbers_become_the_names_in_a_list_of_classes(shards: Callable[..., Path], out: Path) -> None:
    root = shards()
    (root / "classes.txt").write_text("cat\ndog\nowl\n")
    found = index(Data(name=str(root)), out)
    assert found["classes"] == ["cat", "dog", "owl"]
    assert found["notes"][0].startswith("Integer classes count from 0, in the order of the classes: classes.txt has 3 classes")


def test_numbers_are_the_outputs_of_a_checkpoint(shards: Callable[..., Path], out: Path, tmp_path: Path) -> None:
    found = index(Data(name=str(shards())), out, network=network(tmp_path / "network", labels=["a", "b", "c"]))
    assert found["classes"] == ["a", "b", "c"] and sum(found["splits"].values()) == 50


def test_images_without_labels_judge_a_checkpoint(tmp_path: Path, out: Path) -> None:
    shard(tmp_path / "my-shards" / "0.tar", [(f"{i}.png", png(i)) for i in range(10)])
    found = index(Data(name=str(tmp_path / "my-shards")), out, network=network(tmp_path / "network"))
    assert not found["labelled"] and sum(found["splits"].values()) == 10


def test_test_shards_without_labels_are_not_used(shards: Callable[..., Path], out: Path) -> None:
    root = shards()
    shard(root / "set-test-0.tar", [(f"{i}.png", png(100 + i)) for i in range(3)])
    found = index(Data(name=str(root)), out)
    assert "test/ has no labels (3 images) and is not used; val/ is the test set." in found["notes"]
    assert found["splits"]["test"] == 10


def test_links_long_names_and_other_members(shards: Callable[..., Path], out: Path) -> None:
    root = shards(by_folder)
    with tarfile.open(root / "set-train-0002.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("set/cat", "set/dog"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        link = tarfile.TarInfo("set/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "000000.png"
        tar.addfile(link)
        long = tarfile.TarInfo(f"set/dog/{'ü' * 120}.png")
        long.size = len(png(99))
        tar.addfile(long, io.BytesIO(png(99)))
        tar.addfile(tarfile.TarInfo("set/dog/.hidden.png"))
        tar.addfile(tarfile.TarInfo("README"))
    assert sum(index(Data(name=str(root)), out)["splits"].values()) == 51


def test_broken_images_in_shards_are_left_out_and_named(shards: Callable[..., Path], out: Path) -> None:
    root = shards(train=300)
    shard(root / "set-train-0002.tar", [("x.png", b""), ("x.cls", b"0"), ("y.png", b"\x89PNG no"), ("y.cls", b"1")])
    assert index(Data(name=str(root)), out)["notes"] == [
        "2 of 312 images cannot be read and are left out: set-train-0002.tar/x.png (empty file), "
        "set-train-0002.tar/y.png (none of JPEG, PNG, WEBP, BMP, TIFF, GIF, PPM, JPEG2000, AVIF)"
    ]


def cut(root: Path) -> None:
    file = root / "set-train-0001.tar"
    file.write_bytes(file.read_bytes()[:5000])


def no_tar(root: Path) -> None:
    (root / "set-train-0001.tar").write_bytes(b"<html>404</html>" * 100)


def compressed(root: Path) -> None:
    (root / "set-train-0002.tar.gz").write_bytes(b"")


def unnamed(root: Path) -> None:
    (root / "more.tar").write_bytes((root / "set-train-0001.tar").read_bytes())


def partly(root: Path) -> None:
    shard(root / "set-train-0002.tar", [("x.png", png(0))])


def empty(root: Path) -> None:
    shard(root / "set-test-0.tar", [("x.txt", b"")])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (cut, r"set-train-0001\.tar cannot be read \(unexpected end of data\); copy it here again"),
        (no_tar, r"set-train-0001\.tar cannot be read \(.*\); copy it here again"),
        (compressed, r"set-train-0002\.tar\.gz is compressed, .*; expected \.tar: decompress"),
        (unnamed, r"more\.tar names no split, other files do; expected train, val or test in the name"),
        (partly, r"1 of 41 train images have no label, such as set-train-0002\.tar/x\.png; expected a label for every image"),
        (empty, r"the tar files of test have no images"),
    ],
)
def test_a_fault_is_one_line(shards: Callable[..., Path], out: Path, fault: Callable[[Path], None], message: str) -> None:
    root = shards()
    fault(root)
    with pytest.raises(ValueError, match=message) as refusal:
        index(Data(name=str(root)), out)
    assert "\n" not in str(refusal.value)


def test_an_interrupted_reading_continues_with_the_next_shard(shards: Callable[..., Path], out: Path) -> None:
    root = shards()
    shard(root / "set-validation-01.tar", by_number(60))
    broken = root / "set-validation-01.tar"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:600])
    with pytest.raises(ValueError, match="cannot be read"):
        index(Data(name=str(root)), out)
    assert len((out / "shards.jsonl").read_text().splitlines()) == 3
    broken.write_bytes(whole)
    for name in ("set-train-0000.tar", "set-train-0001.tar"):  # what was read is not read again
        (root / name).write_bytes(b"x" * 50 + (root / name).read_bytes()[50:])
    assert sum(index(Data(name=str(root)), out)["splits"].values()) == 51
    assert not (out / "shards.jsonl").exists()


def test_a_shard_that_is_cut_later_is_named_in_one_line(shards: Callable[..., Path], out: Path) -> None:
    root = shards()
    index(Data(name=str(root)), out)
    file = root / "set-validation-00.tar"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"^set-validation-00\.tar/.*\.png of DATA my-shards cannot be read \(the file ends"):
        list(batches(Split(out, "test"), 4))


def test_a_tar_file_beside_folders_of_images_is_left_out(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 20, "train/b": 20, "val/a": 2, "val/b": 2})
    shard(root / "train.tar", by_number(0))
    shard(root / "more.tar.gz", by_number(0))
    assert index(Data(name=str(root)), out)["splits"] == {"train": 38, "val": 2, "test": 4}
