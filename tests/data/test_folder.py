"""The forms a folder of images may have, the ones it may not, and names as people and their systems give them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.index import Data, fingerprint, index
from data.loader import Split, batches
from data.splits import calibrating, held_out
from tests.data.conftest import Tree, distinct, picture


def network(folder: Path, classes: int = 3, channels: int = 3, labels: list[str] | None = None, **said: Any) -> Path:
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"num_classes": classes, "in_channels": channels}))
    (folder / "preprocess.json").write_text(json.dumps({"given": {}, "family": {}} | said))
    if labels is not None:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels), encoding="utf-8")
    return folder


def names(out: Path, split: str) -> list[str]:
    found = Split(out, split)
    return [found.name(i) for i in range(len(found))]


def test_training_images_and_a_gate(tree: Tree, out: Path) -> None:
    root = tree({"train/cat": 20, "train/dog/deeper": 20, "val/dog": 3, "val/cat": 2})
    found = index(Data(name=str(root)), out)
    assert found["name"] == "my-images" and found["classes"] == ["cat", "dog"]
    assert found["splits"] == {"train": 38, "val": 2, "test": 5}
    assert found["labelled"] and found["trainable"] and found["notes"] == []
    assert names(out, "test") == [f"val/cat/{i:03}.png" for i in range(2)] + [f"val/dog/{i:03}.png" for i in range(3)]
    assert Split(out, "test").labels.tolist() == [0, 0, 1, 1, 1]
    together = names(out, "train") + names(out, "val")
    assert len(set(together)) == 40 and all(name.startswith("train/") for name in together)
    assert not (out / "unreadable.txt").exists()


def test_the_gate_is_test_where_there_is_one(tree: Tree, out: Path) -> None:
    index(Data(name=str(tree({"train/a": 4, "val/a": 3, "test/a": 2}))), out)
    assert names(out, "test") == ["test/a/000.png", "test/a/001.png"]


@pytest.mark.parametrize("part", ("val", "test"))
def test_without_training_images_a_slice_calibrates(tree: Tree, out: Path, part: str) -> None:
    root = distinct(tree({f"{part}/cat": 30, f"{part}/dog": 10, f"{part}/lone": 1}))
    found = index(Data(name=str(root)), out)
    assert found["splits"] == {"train": 8, "val": 16, "test": 17}
    assert found["labelled"] and not found["trainable"]
    assert found["notes"] == [
        "my-images has no train/: 8 of its images, drawn by a fixed seed, are for calibration, the other 33 are the test set. "
        "Nothing is trained: no pruning, no distillation.",
        "16 of the 33 test images of my-images choose, by a hash of their content, and the other 17 judge. To choose on other "
        "images, put them into val/ beside test/.",
    ]
    assert np.bincount(Split(out, "train").labels, minlength=3).tolist() == [6, 2, 0]
    assert np.bincount(Split(out, "val").labels, minlength=3).tolist() == [12, 4, 0]
    together = [name for split in ("train", "val", "test") for name in names(out, split)]
    assert len(set(together)) == len(together) == 41
    chosen = names(out, "train")
    index(Data(name=str(root)), out)
    assert names(out, "train") == chosen


def test_the_slice_is_bounded_and_fair() -> None:
    labels = np.repeat(np.arange(100), 100)
    train, test = calibrating(labels, None)
    assert len(train) == 1024 and len(test) == 10_000 - 1024
    assert set(np.bincount(labels[train])) == {10, 11}
    train, _ = calibrating(np.repeat(np.arange(2000), 2), None)  # one of each would be too many
    assert len(train) == 1024
    train, test = calibrating(np.arange(10), None)  # one of each, so any may calibrate
    assert (len(train), len(test)) == (2, 8)
    train, _ = calibrating(np.repeat([0, 1], [50, 2]), None)
    assert 1 in np.repeat([0, 1], [50, 2])[train]


@pytest.mark.parametrize(
    ("images", "limit", "held"),
    [(60_000, None, 3000), (3000, None, 300), (900, None, 180), (700, None, 35), (60_000, 1500, 300)],
)
def test_a_small_set_holds_out_enough_images_to_choose(images: int, limit: int | None, held: int) -> None:
    train, val = held_out(np.arange(images) % 10, 0.05, limit)
    assert len(val) == pytest.approx(held, abs=30) and not set(train) & set(val)
    if limit:
        assert len(train) == pytest.approx(limit, abs=30)


@pytest.mark.parametrize("limit", (None, 250_000))
@pytest.mark.parametrize("classes", (1, 1000, 30_000))
def test_a_large_set_holds_out_at_most_ten_thousand_images(classes: int, limit: int | None) -> None:
    labels = np.sort(np.random.default_rng(0).integers(0, classes, 300_000))
    train, val = held_out(labels, 0.05, limit)
    assert 9_500 < len(val) <= 10_000 and not set(train) & set(val)
    assert len(train) + len(val) == 300_000 if limit is None else len(train) == pytest.approx(limit, rel=0.002)
    held = np.bincount(labels[val], minlength=classes)
    assert held.max() - held.min() <= 5 if classes > 1 else held[0] == 10_000


def test_a_large_set_is_split_by_the_names_of_its_files(tree: Tree, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.splits.HASHED", 99)
    monkeypatch.setattr("data.splits.MOST_TESTED", 10)
    read: list[str] = []
    monkeypatch.setattr("data.splits.content_hash", read.append)
    root = tree({"cat": 50, "dog": 50})
    found = index(Data(name=str(root)), out)
    assert not read and found["splits"]["test"] == 10 and np.bincount(Split(out, "test").labels).tolist() == [5, 5]
    assert found["notes"] == [
        "my-images is not split into train/ and test/: 90 of its images are for training, the other 10 are the test set (the "
        "same share of every class, at most 10, by a hash of the files' names). To choose yourself, make these folders."
    ]
    (root / "cat" / "000.png").rename(root / "cat" / "other.png")
    before = set(names(out, "test"))
    index(Data(name=str(root)), out)
    assert len(before & set(names(out, "test"))) >= 8


def test_limits_hold_for_every_form(tree: Tree, out: Path) -> None:
    root = distinct(tree({"val/cat": 30, "val/dog": 10}))
    found = index(Data(name=str(root), train_limit=4, test_limit=6), out)
    assert found["splits"] == {"train": 4, "val": 3, "test": 3}
    assert set(Split(out, "test").labels) == {0, 1}


@pytest.mark.parametrize("labels", (None, ["one", "two", "three"]))
def test_unlabelled_images_calibrate_a_checkpoint(tree: Tree, out: Path, tmp_path: Path, labels: list[str] | None) -> None:
    root = distinct(tree({"": 9, "holiday/deeper": 1}))
    found = index(Data(name=str(root)), out, network=network(tmp_path / "network", labels=labels))
    assert found["classes"] == (labels or ["class 0", "class 1", "class 2"])
    assert found["splits"] == {"train": 2, "val": 4, "test": 4}
    assert not found["labelled"] and not found["trainable"] and "no labels" in found["notes"][0]
    x, y = next(batches(Split(out, "test"), 100))
    assert x.shape == (4, 3, 224, 224) and y.tolist() == [-1] * 4
    assert sorted(names(out, "train") + names(out, "val") + names(out, "test"))[-1] == "holiday/deeper/000.png"


def test_unlabelled_images_need_a_checkpoint(tree: Tree, out: Path) -> None:
    with pytest.raises(ValueError, match="can only be used with a CHECKPOINT"):
        index(Data(name=str(tree({"": 3}))), out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train/a": 3}, "train/ but neither val/ nor test/"),
        (
            {"a": 3},
            "has a/, but neither images nor val/ or test/; one folder of images has no classes: pass DATA=.*/my-images/a",
        ),
        ({"a/train": 3, "a/val": 3}, r"splits one level down \(a/train/, a/val/\); pass DATA=.*/my-images/a"),
        ({"train/a": 3, "valid/a": 3, "Validation/a": 3}, "has both Validation/ and valid/, two names of one split"),
        ({"a": 3, "b": 0}, "classes without images: b; fill or remove"),
        ({}, "is empty"),
        ({"readme.txt": b"no image"}, "has readme.txt, but"),
        ({".ipynb_checkpoints": 3, "__MACOSX": 3}, "is empty"),
        ({"val": 3}, r"val/ has 3 images but no class folders; .*pass DATA=.*/my-images/val"),
        ({"train": 3, "val/a": 1}, "train/ has 3 images but no class folders"),
        ({"train/a": 3, "train/b/.hidden": 3, "val/a": 1}, "classes without images: b; fill or remove"),
        ({"train/a": 3, "val/a": 1, "val/b": 1}, "test images of classes that train/ does not have: b"),
        ({"train/a": 3, "val/a": 0}, "val/ has no images"),
        ({"train/a": 3, "test/a/x.txt": b"", "val/a": 1}, "test/ has no images"),
        ({"val/a": 1}, "leaves no images for train; expected at least 2 images"),
    ],
)
def test_anything_else_is_refused_with_what_was_found(
    tree: Tree, out: Path, content: dict[str, int | bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        index(Data(name=str(tree(content))), out)
    assert "expected" in str(refusal.value) or "remove" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ("train/data-00000-of-00001.arrow", "data/train-00000-of-00001.parquet"))
def test_tables_need_pyarrow(tree: Tree, out: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"package pyarrow is not installed: pip install -e '\.\[huggingface\]'"):
        index(Data(name=str(tree({name: b""}))), out)


def test_a_file_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"images\.zip' is a file; expected .*a folder"):
        index(Data(name=str(tmp_path / "images.zip")), out)


def test_what_is_no_image_is_left_out_and_counted(tree: Tree, out: Path) -> None:
    root = tree(
        {
            "train/a": 4, "train/.ipynb_checkpoints": 3, "train/a/.hidden.png": b"", "train/__MACOSX/a": 2, "val/a": 2,
            "train/a/notes.TXT": b"", "train/a/b.json": b"", "train/c.txt": b"", "val/a/nothing": b"", "LICENSE": b"",
        }
    )  # fmt: skip
    picture(0).save(root / "train" / "loose.png")
    found = index(Data(name=str(root)), out)
    assert found["classes"] == ["a"] and found["splits"] == {"train": 3, "val": 1, "test": 2}
    assert found["notes"] == [
        "4 files have suffixes that are not of images and were left out (.txt, .json, none)",
        "1 image is outside of the class folders and was left out (train/loose.png)",
    ]


def test_links_are_followed_but_not_in_circles(tree: Tree, out: Path) -> None:
    root = tree({"elsewhere": 5, "train/a": 5, "val/a": 2, "val/b": 2})
    (root / "train" / "b").symlink_to(root / "elsewhere", target_is_directory=True)
    (root / "train" / "a" / "up").symlink_to(root / "train", target_is_directory=True)
    (root / "train" / "a" / "self").symlink_to("self")
    before = fingerprint(Data(name=str(root)))
    assert index(Data(name=str(root)), out)["classes"] == ["a", "b"]
    assert "train/b/000.png" in names(out, "train") + names(out, "val")
    picture(99, (31, 31)).save(root / "elsewhere" / "000.png")
    assert fingerprint(Data(name=str(root))) != before


def test_class_names_are_compared_as_they_look(tree: Tree, out: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    found = index(Data(name=str(tree({f"train/{apart}": 3, "train/猫": 3, f"val/{composed}": 1, "val/猫": 1}))), out)
    assert found["classes"] == [composed, "猫"]
    assert Split(out, "test").labels.tolist() == [0, 1]
    assert next(batches(Split(out, "train"), 4))[0].shape[0] == 4


def test_any_file_name_survives(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 2, "val/a": 0})
    hostile = [b"two\nlines.png", b"latin-\xe9.png", "雪 🐈.png".encode(), b" .png", b"'\"$(x).PNG"]
    for i, name in enumerate(hostile):
        picture(i).save(root / "val" / "a" / "x.png")
        os.rename(root / "val" / "a" / "x.png", os.fsencode(root / "val" / "a") + b"/" + name)
    before = fingerprint(Data(name=str(root)))
    index(Data(name=str(root)), out)
    split = Split(out, "test")
    assert sorted(split.names[i] for i in range(len(split))) == sorted(b"val/a/" + name for name in hostile)
    assert next(batches(split, 10))[0].shape[0] == len(hostile)
    shown = names(out, "test")
    assert "val/a/two\\nlines.png" in shown and "val/a/latin-\\xe9.png" in shown and "val/a/雪 🐈.png" in shown
    "".join(shown).encode()  # can be written into any report
    assert fingerprint(Data(name=str(root))) == before
    os.rename(os.fsencode(root / "val" / "a") + b"/latin-\xe9.png", root / "val" / "a" / "other.png")
    assert fingerprint(Data(name=str(root))) != before


def test_the_names_of_an_array_are_numbers(out: Path) -> None:
    index(Data(train_limit=40, test_limit=8), out)
    assert Split(out, "test").name(7) == "test #7"


def test_the_order_of_labels_txt_is_that_of_the_outputs(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"val/cat": 5, "val/bird": 5}))
    found = index(Data(name=str(root)), out, network=network(tmp_path / "n", labels=["dog", "cat", "bird"]))
    assert found["classes"] == ["dog", "cat", "bird"]
    split = Split(out, "test")
    assert {(split.name(i).split("/")[1], int(split.labels[i])) for i in range(len(split))} == {("cat", 1), ("bird", 2)}


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (None, 1000, r"checkpoint has 1000 classes, DATA my-images has 2 \(cat, dog\): .*labels.txt.*make train CHECKPOINT="),
        (["cat", "horse", "cow"], 3, r"has 1 classes that labels.txt of the checkpoint does not have: dog"),
        (["cat", "dog"], 3, "labels.txt has 2 lines, the checkpoint has 3 classes"),
        (["cat", "dog", "cat"], 3, "has cat more than once"),
    ],
)
def test_classes_that_are_not_the_networks(
    tree: Tree, out: Path, tmp_path: Path, labels: list[str] | None, classes: int, message: str
) -> None:
    root = tree({"train/cat": 3, "train/dog": 3, "val/cat": 1})
    with pytest.raises(ValueError, match=message):
        index(Data(name=str(root)), out, network=network(tmp_path / "n", classes, labels=labels))


@pytest.mark.parametrize(
    ("labels", "classes", "same"),
    [
        (["dog", "cat"], ["dog", "cat"], True),  # the same classes: the outputs keep their meaning
        (["cow", "cat"], ["cat", "dog"], False),
        (None, ["cat", "dog"], None),
        (["cat", "cow", "dog"], ["cat", "dog"], False),
    ],
)
def test_a_new_head_may_be_for_any_classes(
    tree: Tree, out: Path, tmp_path: Path, labels: list[str] | None, classes: list[str], same: bool | None
) -> None:
    root = tree({"train/cat": 3, "train/dog": 3, "val/cat": 1})
    known = network(tmp_path / "n", len(labels or classes), labels=labels)
    found = index(Data(name=str(root), new_classes=True), out, network=known)
    assert found["classes"] == classes
    assert json.loads((out / "dataset.json").read_text())["same_classes"] is same


def test_a_known_set_has_the_networks_channels_and_order(out: Path, tmp_path: Path) -> None:
    plain, grey = tmp_path / "plain", network(tmp_path / "grey", 10, 3)
    plain.mkdir()
    index(Data(train_limit=40, test_limit=8, choose_share=0), plain)
    names_of_plain = json.loads((plain / "dataset.json").read_text())["classes"]
    assert index(Data(train_limit=40, test_limit=8, choose_share=0), out, network=grey)["input_shape"] == [3, 32, 32]
    x, labels = next(batches(Split(out, "test"), 8))
    one, _ = next(batches(Split(plain, "test"), 8))
    assert np.array_equal(x.numpy(), np.repeat(one.numpy(), 3, axis=1))
    turned = network(tmp_path / "turned", 10, 1, labels=names_of_plain[::-1])
    assert index(Data(train_limit=40, test_limit=8, choose_share=0), out, network=turned)["classes"] == names_of_plain[::-1]
    assert Split(out, "test").labels.tolist() == (9 - labels.numpy()).tolist()
    with pytest.raises(ValueError, match="1000 classes, DATA fashion-mnist has 10"):
        index(Data(train_limit=40, test_limit=8, choose_share=0), out, network=network(tmp_path / "large", 1000, 1))
