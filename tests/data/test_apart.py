"""Which images choose and which judge, and that they have no image in common."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.duplicates import CheckImages, check_images
from data.index import Data, index
from data.loader import Split
from data.splits import choosing
from tests.data.conftest import Tree, distinct, picture
from tests.data.test_duplicates import CHANGES
from tests.data.test_folder import names, network


def contents(root: Path, out: Path, split: str) -> set[bytes]:
    return {(root / name).read_bytes() for name in names(out, split)}


def indexed(root: Path, out: Path, known: Path | None = None, **changes: Any) -> dict[str, Any]:
    return index(Data(name=str(root), input_size=16, **changes), out, network=known)


@pytest.mark.parametrize("with_network", [False, True])
def test_the_users_own_val_chooses_and_test_judges(tree: Tree, out: Path, tmp_path: Path, with_network: bool) -> None:
    root = distinct(tree({"train/a": 10, "train/b": 10, "validation/a": 3, "validation/b": 4, "test/a": 5, "test/b": 6}))
    found = indexed(root, out, network(tmp_path / "n", 2) if with_network else None)
    assert found["splits"] == {"train": 20, "val": 7, "test": 11} and found["notes"] == []
    assert found["chosen_on"] == {"source": "val", "n": 7} and found["judged_on"] == {"source": "test", "n": 11}
    assert all(name.startswith("validation/") for name in names(out, "val"))
    assert all(name.startswith("test/") for name in names(out, "test"))
    assert json.loads((out / "dataset.json").read_text())["chosen_on"] == found["chosen_on"]


def test_a_table_may_name_the_images_that_choose(tree: Tree, out: Path) -> None:
    root = distinct(tree({"": 12}))
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    rows = [f"{i:03}.png,{'ab'[i % 2]},{split}" for i, split in enumerate(splits)]
    (root / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    found = indexed(root, out)
    assert found["splits"] == {"train": 6, "val": 2, "test": 4} and found["chosen_on"] == {"source": "val", "n": 2}


def test_without_training_images_the_own_val_also_calibrates(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"val/a": 10, "val/b": 10, "test/a": 5, "test/b": 6}))
    found = indexed(root, out, network(tmp_path / "n", 2))
    assert found["splits"] == {"train": 4, "val": 16, "test": 11} and found["chosen_on"]["source"] == "val"
    assert all(name.startswith("val/") for name in names(out, "train") + names(out, "val"))
    assert "the other 16 of val/ choose" in found["notes"][0]


def test_unlabelled_images_may_be_divided_by_the_user(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"val": 10, "test": 6}))
    found = indexed(root, out, network(tmp_path / "n", 2))
    assert found["splits"] == {"train": 2, "val": 8, "test": 6} and not found["labelled"]
    assert found["chosen_on"] == {"source": "val", "n": 8}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_in_val_and_in_test_judges_and_does_not_choose(tree: Tree, out: Path, change: str) -> None:
    root = distinct(tree({"train/a": 4, "val/a": 10, "test/a": 20}))
    for i, file in enumerate(sorted(root.glob("val/a/*.png"))):
        picture(2000 + i, (64, 48)).save(file)
    for i, file in enumerate(sorted(root.glob("test/a/*.png"))):
        picture(3000 + i, (64, 48)).save(file)
    CHANGES[change](Image.open(root / "test/a/007.png")).save(root / "val/a/copy.png")
    found = indexed(root, out)
    assert found["splits"] == {"train": 4, "val": 10, "test": 20} and "val/a/copy.png" not in names(out, "val")
    assert found["notes"] == [
        "1 of 11 images of val/ is also in test/, the same or nearly (such as val/a/copy.png and test/a/007.png). They judge "
        "and do not choose."
    ]
    check_images(CheckImages(), out, images=out)  # the kept signatures belong to the kept images
    assert len(np.load(out / "duplicates.npz")["chooses"]) == 10


def test_a_val_that_is_a_copy_of_test_is_refused(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 4, "val/a": 3, "test/a": 3})
    with pytest.raises(ValueError, match=r"3 of 3 images of val/ are also in test/.*remove val/: then a part of test/ chooses"):
        indexed(root, out)


def test_a_part_of_the_test_images_chooses_for_a_checkpoint(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"train/a": 12, "train/b": 12, "val/a": 30, "val/b": 20}))
    found = indexed(root, out, network(tmp_path / "n", 2))
    assert found["splits"] == {"train": 24, "val": 25, "test": 25}, "at least 300, but never more than half"
    assert found["chosen_on"] == {"source": "test", "n": 25} and found["judged_on"] == {"source": "test", "n": 25}
    assert np.bincount(Split(out, "val").labels).tolist() == [15, 10]
    assert contents(root, out, "val").isdisjoint(contents(root, out, "test"))
    before = contents(root, out, "val")
    for i, path in enumerate(sorted(root.glob("val/*/*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed-{i:03}.png"))
    indexed(root, out, tmp_path / "n")
    assert contents(root, out, "val") == before, "names do not matter"


@pytest.mark.parametrize("change", ["the same", "JPEG 75"])
def test_copies_are_on_one_side(tree: Tree, out: Path, tmp_path: Path, change: str) -> None:
    root = tree({"train/a": 4, "test": 0})
    for i in range(30):
        file = root / "test" / "ab"[i % 2] / f"{i:03}.png"
        file.parent.mkdir(exist_ok=True)
        picture(100 + i, (64, 48)).save(file)
        for copy in range(3):
            CHANGES[change](Image.open(file)).save(file.with_name(f"{file.stem}-{copy}.png"))
    shutil.copytree(root / "test/b", root / "train/b")
    found = indexed(root, out, network(tmp_path / "n", 2))
    assert found["splits"]["val"] == found["splits"]["test"] == 60
    of = {split: {Path(name).stem[:3] for name in names(out, split)} for split in ("val", "test")}
    assert len(of["val"]) == len(of["test"]) == 15 and of["val"].isdisjoint(of["test"])
    assert found["notes"][-1] == (
        "90 of these 120 images are copies of others, the same or nearly; all copies of an image are on the same side."
    )


def test_named_sets_are_divided_alike_for_every_network(tmp_path: Path) -> None:
    labels = [str(i) for i in range(10)]
    plain = tmp_path / "plain"
    plain.mkdir()
    index(Data(train_limit=40, test_limit=1000), plain)
    classes = json.loads((plain / "dataset.json").read_text())["classes"]
    assert json.loads((plain / "dataset.json").read_text())["chosen_on"]["source"] == "train"
    pixels = []
    for i, (channels, labels) in enumerate(((1, classes), (3, classes[::-1]))):
        out = tmp_path / str(i)
        out.mkdir()
        found = index(Data(train_limit=40, test_limit=1000), out, network=network(tmp_path / f"n{i}", 10, channels, labels))
        assert found["splits"] == {"train": 40, "val": 333, "test": 667} and found["chosen_on"] == {"source": "test", "n": 333}
        pixels.append(np.load(out / "test.images.npy"))
    assert np.array_equal(pixels[0], pixels[1])


def test_a_slice_of_the_training_images_chooses_where_the_user_says_so(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"train/a": 20, "train/b": 20, "val/a": 3, "val/b": 2}))
    found = indexed(root, out, network(tmp_path / "n", 2), choose_share=0)
    assert found["splits"] == {"train": 38, "val": 2, "test": 5} and found["chosen_on"] == {"source": "train", "n": 2}
    (note,) = found["notes"]
    assert "data.choose_share is 0" in note and "by heart" in note


def test_a_network_that_is_trained_here_may_choose_on_test_images(tree: Tree, out: Path) -> None:
    root = distinct(tree({"train/a": 20, "train/b": 20, "val/a": 3, "val/b": 3}))
    found = indexed(root, out, choose_from_test=True)
    assert found["splits"] == {"train": 40, "val": 3, "test": 3}


@pytest.mark.parametrize(
    ("content", "classes", "share", "message"),
    [
        ({"val/a": 5, "val/b": 5}, 2, 0.0, "leave --choose-share out"),
        (
            {"train/a": 5, "val/a": 1},
            1,
            1 / 3,
            "1 distinct test image; expected at least 2, one to choose on and one to judge on",
        ),
    ],
)
def test_too_little_to_choose_on_is_refused(
    tree: Tree, out: Path, tmp_path: Path, content: dict[str, int | bytes], classes: int, share: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        indexed(distinct(tree(content)), out, network(tmp_path / "n", classes), choose_share=share)


def test_images_that_train_do_not_choose(tree: Tree, out: Path) -> None:
    root = distinct(tree({"train/a": 20, "val/a": 60, "test/a": 60}))
    for i in range(5):
        shutil.copy(root / f"train/a/{i:03}.png", root / f"val/a/leaked{i}.png")
    indexed(root, out)
    found = check_images(CheckImages(), out, images=out)
    with np.load(out / "duplicates.npz") as arrays:
        assert arrays["counted"].all() and arrays["chooses"].sum() == found["choosing"] == 60
    (note,) = [note for note in found["notes"] if "images that choose" in note]
    assert note.startswith("5 of 65 images that choose are also among the training images")
    assert note.endswith("They do not count in choices; accuracy counts all.")


def test_a_val_that_trains_is_refused(tree: Tree, out: Path) -> None:
    root = distinct(tree({"train/a": 60, "test/a": 60}))
    shutil.copytree(root / "train", root / "val")
    indexed(root, out)
    with pytest.raises(ValueError, match="60 of 60 images that choose are also training images"):
        check_images(CheckImages(), out, images=out)


def hashes_of(count: int) -> np.ndarray:
    return np.asarray([f"{value:016x}" for value in np.random.default_rng(0).permutation(count)])


@pytest.mark.parametrize(
    ("count", "share", "chosen"),
    [(10_000, 1 / 3, 3333), (1000, 1 / 3, 333), (900, 1 / 3, 300), (700, 1 / 3, 300), (500, 1 / 3, 250), (2, 1 / 3, 1),
     (10_000, 0.2, 2000), (1000, 0.1, 300), (5, 0.5, 2)],
)  # fmt: skip
def test_at_least_300_choose_and_never_more_than_half(count: int, share: float, chosen: int) -> None:
    found = choosing(hashes_of(count), np.arange(count), np.zeros(count, int), share)
    assert found.sum() == chosen


def test_every_class_gives_its_share_and_single_images_judge() -> None:
    labels = np.repeat([0, 1, 2, 3], [600, 300, 99, 1])
    found = choosing(hashes_of(1000), np.arange(1000), labels, 1 / 3)
    assert np.bincount(labels[found], minlength=4).tolist() == pytest.approx([200, 100, 33, 0], abs=1)
    alone = choosing(hashes_of(6), np.arange(6), np.arange(6), 1 / 3)
    assert alone.sum() == 3, "where no class has two images, any may choose"


def test_the_division_depends_on_the_content_alone() -> None:
    hashes, labels = hashes_of(1000), np.arange(1000) % 7
    found = choosing(hashes, np.arange(1000), labels, 1 / 3)
    order = np.random.default_rng(1).permutation(1000)
    again = choosing(hashes[order], np.arange(1000), labels[order], 1 / 3)
    assert set(hashes[order][again]) == set(hashes[found])
