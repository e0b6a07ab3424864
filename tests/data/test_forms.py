"""Folders as people have them: what is read, and what is said about it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import walk
from data.index import Data, index
from data.loader import Split
from tests.data.conftest import Tree, distinct, picture
from tests.data.test_folder import names, network

NOT_SPLIT = (
    "my-images is not split into train/ and test/: {} of its images are for training, the other {} are the test set (a fifth "
    "of every class, by a hash of the files' content). To choose yourself, make these folders."
)
Content = dict[str, int | bytes]


@pytest.mark.parametrize(
    ("train", "gate"),
    [("train", "valid"), ("train", "validation"), ("train", "Val"), ("train", "Test"), ("TRAIN", "val"),
     ("training", "testing"), ("Training", "eval"), ("train", "TESTING")],
)  # fmt: skip
def test_splits_in_any_spelling(tree: Tree, out: Path, train: str, gate: str) -> None:
    found = index(Data(name=str(tree({f"{train}/a": 10, f"{train}/b": 10, f"{gate}/a": 2, f"{gate}/b": 1}))), out)
    assert found["classes"] == ["a", "b"] and found["splits"] == {"train": 18, "val": 2, "test": 3}
    assert names(out, "test") == [f"{gate}/a/000.png", f"{gate}/a/001.png", f"{gate}/b/000.png"] and found["notes"] == []


@pytest.mark.parametrize("gate", ("valid", "Testing", "eval"))
def test_a_gate_alone_in_any_spelling(tree: Tree, out: Path, gate: str) -> None:
    found = index(Data(name=str(distinct(tree({f"{gate}/a": 10, f"{gate}/b": 10})))), out)
    assert found["splits"] == {"train": 4, "val": 8, "test": 8} and "has no train/" in found["notes"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"val/a": 2, "Val/a": 2}, "has both Val/ and val/, two names of one split"),
        ({"train/a": 3, "training/a": 3, "val/a": 2}, "has both train/ and training/, two names of one split"),
        ({"train/a": 3, "test/a": 3, "testing/a": 2}, "has both test/ and testing/, two names of one split"),
        ({"train/a": 3}, "has train/ but neither val/ nor test/; pass DATA=.*my-images/train to split it automatically"),
        ({"cat/train": 3, "dog/train": 3}, r"has its splits one level down \(cat/train/\); pass DATA=.*my-images/cat"),
        ({"data/train/a": 3, "data/val/a": 3}, r"one level down \(data/train/, data/val/\); pass DATA=.*my-images/data"),
    ],
)
def test_forms_that_are_refused(tree: Tree, out: Path, content: Content, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        index(Data(name=str(tree(content))), out)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("test", "count"), [({"test": 20}, 20), ({"test/unknown": 7}, 7), ({"test/images": 3, "test": 1}, 4)], ids=str
)
def test_an_unlabelled_test_beside_a_labelled_val(tree: Tree, out: Path, test: Content, count: int) -> None:
    found = index(Data(name=str(tree({"train/a": 6, "train/b": 6, "val/a": 5, "val/b": 5, **test}))), out)
    assert found["splits"]["test"] == 10 and found["labelled"] and found["trainable"]
    assert all(name.startswith("val/") for name in names(out, "test"))
    images = "images" if count != 1 else "image"
    assert found["notes"] == [f"test/ has no labels ({count} {images}) and is not used; val/ is the test set."]


def test_training_images_are_split_where_only_they_have_labels(tree: Tree, out: Path) -> None:
    found = index(Data(name=str(tree({"train/a": 10, "train/b": 10, "test": 5, "val": 2}))), out)
    assert found["splits"] == {"train": 14, "val": 2, "test": 4} and found["labelled"] and found["trainable"]
    assert found["notes"] == [
        NOT_SPLIT.format(16, 4),
        "test/ has no labels (5 images) and is not used; train/ is split instead.",
        "val/ has no labels (2 images) and is not used; train/ is split instead.",
    ]


STRAY: Content = {"README.md": b"", "Thumbs.db": b"", ".DS_Store": b"", "desktop.ini": b"", "__MACOSX/a": 2, "@eaDir": 2}


@pytest.mark.parametrize("with_network", (False, True))
def test_class_folders_on_one_level_are_split_here(tree: Tree, out: Path, tmp_path: Path, with_network: bool) -> None:
    root = distinct(tree({"cat": 50, "dog/deeper": 20, "lone": 1, **STRAY}))
    (root / "cat" / "._000.png").write_bytes(b"what macOS leaves")
    picture(0).save(root / "stray.png")
    known = network(tmp_path / "n", 3) if with_network else None
    found = index(Data(name=str(root)), out, network=known)
    assert found["classes"] == ["cat", "dog", "lone"] and found["labelled"] and found["trainable"]
    tested = [Split(out, split).labels for split in (("val", "test") if with_network else ("test",))]
    assert np.bincount(np.concatenate(tested), minlength=3).tolist() == [10, 4, 0]
    assert found["splits"] == ({"train": 57, "val": 7, "test": 7} if with_network else {"train": 54, "val": 3, "test": 14})
    notes = [
        NOT_SPLIT.format(57, 14),
        "3 files have suffixes that are not of images and were left out (.md, .db, .ini)",
        "1 image is outside of the class folders and was left out (stray.png)",
    ]
    if with_network:
        notes.append(
            "7 of the 14 test images of my-images choose, by a hash of their content, and the other 7 judge. To choose on "
            "other images, put them into val/ beside test/."
        )
    assert found["notes"] == notes


def test_the_split_depends_on_content_alone(tree: Tree, out: Path) -> None:
    root = distinct(tree({"cat": 20, "dog": 20}))
    index(Data(name=str(root)), out)
    chosen = {(root / name).read_bytes() for name in names(out, "test")}
    for i, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed-{i:03}.png"))
    index(Data(name=str(root)), out)
    assert {(root / name).read_bytes() for name in names(out, "test")} == chosen


def test_equal_files_are_on_one_side(tree: Tree, out: Path) -> None:
    root = tree({"cat": 20, "dog": 20})
    for i in range(20):
        picture(i % 5).save(root / "cat" / f"{i:03}.png")
    index(Data(name=str(root)), out)
    test = {(root / name).read_bytes() for name in names(out, "test") if "cat" in name}
    others = {(root / name).read_bytes() for split in ("train", "val") for name in names(out, split) if "cat" in name}
    assert len(test) == 1 and len(others) == 4 and not test & others


@pytest.mark.parametrize(
    ("content", "labelled", "message"),
    [
        ({"": 1, "a": 5, "b": 5}, True, "1 image is outside of the class folders and was left out (000.png)"),
        ({"": 3, "a": 5, "b": 5}, True,
         "3 images are outside of the class folders and were left out (000.png, 001.png, 002.png)"),
        ({"": 20, "a": 5, "b": 5}, False,
         "The folders a, b were not used as classes, because most images are outside of them; if they are classes, move the "
         "other images out of DATA."),
        ({"": 20, "a": 5}, False, ""),
    ],
)  # fmt: skip
def test_images_beside_folders(tree: Tree, out: Path, tmp_path: Path, content: Content, labelled: bool, message: str) -> None:
    found = index(Data(name=str(distinct(tree(content)))), out, network=network(tmp_path / "n", 2))
    assert found["labelled"] is labelled and found["notes"][1:-1] == ([message] if message else [])
    assert sum(found["splits"].values()) == (10 if labelled else sum(n for n in content.values() if isinstance(n, int)))


FORMATS = {
    "ppm": "PPM", "PGM": "PPM", "BMP": "BMP", "jfif": "JPEG", "JPG": "JPEG", "jpe": "JPEG", "WebP": "WEBP", "tif": "TIFF",
    "TIFF": "TIFF", "avif": "AVIF", "jp2": "JPEG2000", "J2K": "JPEG2000", "gif": "GIF",
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_that_pillow_decodes(tree: Tree, out: Path, suffix: str) -> None:
    root = tree({"train/a": 4, "val/a": 0})
    mode = "L" if suffix == "PGM" else "RGB"
    picture(1, (64, 48), mode).save(root / "val" / "a" / f"x.{suffix}", FORMATS[suffix])
    found = index(Data(name=str(root), input_size=32), out)
    assert found["splits"]["test"] == 1 and found["notes"] == []
    difference = np.asarray(Split(out, "test").image(0), int) - np.asarray(picture(1, (64, 48), mode).convert("RGB"), int)
    assert np.abs(difference).mean() < 12  # lossy formats; a wrong image differs by about 80


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
JXL = b"\xff\x0a" + bytes(40)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.heic", HEIC, "Pillow here has no HEIC decoder; convert it to JPEG or PNG"),
        ("x.HEIF", HEIC, "Pillow here has no HEIC decoder; convert it to JPEG or PNG"),
        ("x.jpg", HEIC, "Pillow here has no HEIC decoder; convert it to JPEG or PNG"),
        ("x.jxl", JXL, "Pillow here has no JPEG XL decoder; convert it to JPEG or PNG"),
        ("x.ppm", b"no image", "none of JPEG, PNG, WEBP, BMP, TIFF, GIF, PPM, JPEG2000, AVIF"),
    ],
)
def test_what_pillow_cannot_decode_is_named_and_counted(tree: Tree, out: Path, name: str, content: bytes, why: str) -> None:
    root = tree({"train/a": 120, "val/a": 1})
    (root / "train" / "a" / name).write_bytes(content)
    found = index(Data(name=str(root)), out)
    assert found["notes"] == [f"1 of 122 images cannot be read and is left out: train/a/{name} ({why})"]
    for i in range(3):
        (root / "val" / "a" / f"{i}-{name}").write_bytes(content)
    with pytest.raises(ValueError, match=r"4 of 125 images \(3\.2 %\) cannot be read.*" + re.escape(why)):
        index(Data(name=str(root)), out)


def test_links(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 150, "val/a": 2, "val/b": 2})
    elsewhere = root.parent / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for i in range(6):
        picture(50 + i).save(elsewhere / "deep" / f"{i}.png")
    (root / "train" / "b").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(elsewhere / "deep")  # the same real folder once more
    (elsewhere / "deep" / "up").symlink_to(elsewhere)  # a circle
    (root / "train" / "a" / "all").symlink_to(root / "train")  # would give a the images of b
    (root / "train" / "a" / "one.png").symlink_to(elsewhere / "deep" / "0.png")
    (root / "train" / "a" / "broken.png").symlink_to("nowhere.png")
    (root / "train" / "c").symlink_to("nowhere")
    (root / "itself").symlink_to("itself")
    found = index(Data(name=str(root)), out)
    labels = np.concatenate([Split(out, "train").labels, Split(out, "val").labels])
    assert found["classes"] == ["a", "b"] and np.bincount(labels).tolist() == [151, 6]
    assert found["notes"] == [
        "1 of 162 images cannot be read and is left out: train/a/broken.png (No such file or directory)",
        "1 link is broken and was left out (train/c)",
    ]


def test_folders_that_link_to_one_another_are_walked_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(12)]  # 12! paths
    for folder in folders:
        folder.mkdir()
        (folder / "x.png").write_bytes(b"")
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(other)
    assert sum(walk.is_image(entry) for entry in walk.walk(bytes(tmp_path))) == 12


@pytest.mark.parametrize("suffix", ("gif", "webp", "tif", "png"))
def test_of_several_frames_the_first_is_used_and_the_others_are_mentioned(tree: Tree, out: Path, suffix: str) -> None:
    root = tree({"train/a": 4, "val/a": 0})
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((250, 0, 0), (0, 0, 250), (0, 250, 0))]
    for i in range(2):
        frames[0].save(root / "val" / "a" / f"{i}.{suffix}", save_all=True, append_images=frames[1:])
    frames[0].save(root / "val" / "a" / f"plain.{suffix}")
    found = index(Data(name=str(root)), out)
    assert found["notes"] == ["2 images have several frames or pages; the first one is used."]
    assert np.asarray(Split(out, "test").image(0))[16, 16].tolist()[0] > 200
