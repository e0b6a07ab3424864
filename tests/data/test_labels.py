"""Labels in a table beside the images: every form that people have, and every way in which it does not fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from data.index import Data, index
from data.loader import Split
from tests.data.conftest import Tree, distinct
from tests.data.test_folder import names, network

COUNT = 20
KINDS = ["cat" if i % 2 else "dog" for i in range(COUNT)]
Rows = list[tuple[str, str]]


def table(header: str, delimiter: str = ",", stem: bool = False, folder: str = "", integers: bool = False) -> Callable[[], str]:
    """Text that names 000.png … and their kinds, under `header`."""

    def text() -> str:
        lines = [header] if header else []
        for i, kind in enumerate(KINDS):
            label = str(["cat", "dog"].index(kind)) if integers else kind
            lines.append(f"{folder}{i:03}{'' if stem else '.png'}{delimiter}{label}")
        return "\n".join(lines) + "\n"

    return text


def objects(wrap: Callable[[dict[str, str]], object]) -> Callable[[], str]:
    return lambda: json.dumps(wrap({f"{i:03}.png": kind for i, kind in enumerate(KINDS)}))


def labelled_as(out: Path) -> dict[str, str]:
    """Name of the file -> name of its class, of every image that is used."""
    classes = json.loads((out / "dataset.json").read_text())["classes"]
    found = {}
    for part in ("train", "val", "test"):
        split = Split(out, part)
        found |= {Path(split.name(i)).name: classes[int(split.labels[i])] for i in range(len(split))}
    return found


EXPECTED = {f"{i:03}.png": kind for i, kind in enumerate(KINDS)}
TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "Hugging Face": ("metadata.csv", table("file_name,label")),
    "Hugging Face, JSON Lines": (
        "metadata.jsonl",
        lambda: "".join(json.dumps({"file_name": name, "label": kind}) + "\n" for name, kind in EXPECTED.items()),
    ),
    "Kaggle, id without suffix": ("train.csv", table("id,label", stem=True)),
    "Kaggle, image": ("labels.csv", table("image,class")),
    "filename": ("annotations.csv", table("filename,label")),
    "breed": ("labels.csv", table("id,breed", stem=True)),
    "an unknown name": ("labels.csv", table("picture,sort")),
    "semicolons": ("labels.csv", table("filename;label", ";")),
    "tabs": ("labels.tsv", table("filename\tlabel", "\t")),
    "tabs in .csv": ("labels.csv", table("filename\tlabel", "\t")),
    "no header": ("labels.csv", table("")),
    "a list in a text file": ("list.txt", table("", " ")),
    "folders in the names": ("labels.csv", table("path,label", folder="data/images/")),
    "absolute": ("labels.csv", table("path,label", folder="/home/me/")),
    "backslashes": ("labels.csv", table("path,label", folder=".\\images\\")),
    "byte order mark": ("labels.csv", lambda: "\ufeff" + table("filename,label")()),
    "quotes": ("labels.csv", lambda: table('"filename","label"')().replace("cat", '"cat"')),
    "blanks": ("labels.csv", lambda: table("filename, label")().replace(",", ", ")),
    "more columns": ("labels.csv", lambda: table("id,width,label")().replace(".png,", ".png,640,")),
    "a column for each class": (
        "_classes.csv",
        lambda: "filename, cat, dog\n"
        + "".join(f"{name}, {int(kind == 'cat')}, {int(kind == 'dog')}\n" for name, kind in EXPECTED.items()),
    ),
    "JSON": ("labels.json", objects(dict)),
    "JSON, in one key": ("labels.json", objects(lambda rows: {"labels": rows})),
    "JSON, pairs": ("dataset.json", objects(lambda rows: {"labels": list(rows.items())})),
    "JSON, rows": ("labels.json", objects(lambda rows: [{"file": a, "label": b} for a, b in rows.items()])),
    "JSON, by class": (
        "labels.json",
        objects(lambda rows: {kind: [a for a, b in rows.items() if b == kind] for kind in ("cat", "dog")}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", ("beside", "split"))
@pytest.mark.parametrize("form", TABLES)
def test_every_form_of_table(tree: Tree, out: Path, form: str, place: str) -> None:
    name, text = TABLES[form]
    root = distinct(tree({"": COUNT} if place == "beside" else {"train": COUNT, "val/cat": 1, "val/dog": 1}))
    (root / ("" if place == "beside" else "train") / name).write_text(text(), encoding="utf-8")
    found = index(Data(name=str(root)), out)
    assert found["classes"] == ["cat", "dog"] and found["labelled"] and found["trainable"]
    if place == "beside":
        assert labelled_as(out) == EXPECTED and found["splits"] == {"train": 14, "val": 2, "test": 4}
        assert found["notes"][0].startswith(
            "my-images is not split into train/ and test/: 16 of its images are for training, the other 4"
        )
    else:
        assert found["splits"] == {"train": 18, "val": 2, "test": 2}
        assert all(EXPECTED[Path(file).name] == kind for file, kind in labelled_as(out).items() if file != "000.png")
    where = "the images" if place == "beside" else "train/"
    assert [note for note in found["notes"] if note.startswith(f"The labels of {where} come from {name} (column ")]


@pytest.mark.parametrize("name", ("train.csv", "train_labels.csv", "labels.csv", "Training-Set.csv"))
def test_kaggle(tree: Tree, out: Path, name: str) -> None:
    root = distinct(tree({"train": COUNT, "test": 4}))
    (root / name).write_text(table("id,label", stem=True, folder="train/" if name == "labels.csv" else "")())
    (root / "sample_submission.csv").write_text("id,label\n" + "".join(f"{i:03},cat\n" for i in range(4)))
    (root / "test.csv").write_text("id\n000\n001\n002\n003\n")
    found = index(Data(name=str(root)), out)
    assert labelled_as(out) == EXPECTED and found["splits"] == {"train": 14, "val": 2, "test": 4}
    assert found["notes"][1:] == [
        f"The labels of train/ come from {name} (column 'label').",
        "test/ has no labels (4 images) and is not used; train/ is split instead.",
    ]


@pytest.mark.parametrize("place", ("", "train/"))
def test_one_table_for_both_splits(tree: Tree, out: Path, place: str) -> None:
    root = distinct(tree({"train": COUNT, "val": 4}))
    rows = [f"train/{name},{kind}" for name, kind in EXPECTED.items()]
    rows += [f"val/{i:03}.png,{KINDS[i]}" for i in range(4)]
    (root / "labels.csv").write_text("file,label\n" + "\n".join(rows))
    found = index(Data(name=str(root)), out)
    assert found["splits"] == {"train": 18, "val": 2, "test": 4}
    assert Split(out, "test").labels.tolist() == [0, 0, 1, 1] and names(out, "test")[0] == "val/001.png"


def test_a_table_that_states_the_splits(tree: Tree, out: Path) -> None:
    root = tree({"images": COUNT})
    rows = [f"{name},{kind},{'Test' if i >= 16 else 'training'}" for i, (name, kind) in enumerate(EXPECTED.items())]
    (root / "labels.csv").write_text("file,label,split\n" + "\n".join(rows))
    found = index(Data(name=str(root)), out)
    assert found["splits"] == {"train": 14, "val": 2, "test": 4}
    assert sorted(names(out, "test")) == [f"images/{i:03}.png" for i in range(16, 20)]
    assert found["notes"] == [
        "The labels of the images come from labels.csv (column 'label').",
        "The splits are those of the table; test is the test set.",
    ]


INTEGERS: list[tuple[dict[str, str], int | None, list[str] | None, list[str], str]] = [
    ({}, None, None, ["0", "1"], ""),
    ({}, 2, None, ["class 0", "class 1"], "the checkpoint has 2 classes"),
    ({}, 2, ["Katze", "Hund"], ["Katze", "Hund"], "the checkpoint has 2 classes"),
    ({}, 5, None, [f"class {i}" for i in range(5)], "the checkpoint has 5 classes"),
    ({"classes.txt": "Katze\nHund\n"}, None, None, ["Katze", "Hund"], "classes.txt has 2 classes"),
    ({"class_map.txt": "Katze\nHund\nMaus\n"}, 3, None, ["Katze", "Hund", "Maus"], "class_map.txt has 3 classes"),
    ({"class_to_idx.json": '{"Hund": 1, "Katze": 0}'}, None, None, ["Katze", "Hund"], "class_to_idx.json has 2 classes"),
    ({"id2label.json": '{"1": "Hund", "0": "Katze"}'}, 2, None, ["Katze", "Hund"], "id2label.json has 2 classes"),
]


@pytest.mark.parametrize(("files", "outputs", "labels", "classes", "message"), INTEGERS)
def test_labels_by_integer(
    tree: Tree, out: Path, tmp_path: Path, files: dict[str, str], outputs: int | None, labels: list[str] | None,
    classes: list[str], message: str,
) -> None:  # fmt: skip
    root = distinct(tree({"": COUNT}))
    (root / "labels.csv").write_text(table("filename,label", integers=True)())
    for name, text in files.items():
        (root / name).write_text(text)
    known = None if outputs is None else network(tmp_path / "n", outputs, labels=labels)
    found = index(Data(name=str(root)), out, network=known)
    assert found["classes"] == classes
    assert labelled_as(out) == {name: classes[["cat", "dog"].index(kind)] for name, kind in EXPECTED.items()}
    assert message in " ".join(found["notes"]) and (not message or "Integer classes count from 0" in " ".join(found["notes"]))


def test_integers_are_the_order_of_the_class_folders(tree: Tree, out: Path) -> None:
    """ImageNet as many have it: train/<class>/*, val/* and val.txt."""
    root = tree({"train/n01": 3, "train/n02": 3, "train/n10": 3, "val": 3})
    (root / "val.txt").write_text("000.png 2\n001.png 0\n002.png 1\n")
    found = index(Data(name=str(root)), out)
    assert found["classes"] == ["n01", "n02", "n10"]
    assert {names(out, "test")[i]: int(Split(out, "test").labels[i]) for i in range(3)} == {
        "val/000.png": 2, "val/001.png": 0, "val/002.png": 1,
    }  # fmt: skip


def test_integers_that_count_from_one(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = distinct(tree({"": 12}))
    (root / "labels.csv").write_text("file,label\n" + "".join(f"{i:03}.png,{i % 3 + 1}\n" for i in range(12)))
    found = index(Data(name=str(root)), out, network=network(tmp_path / "n", 3, labels=["a", "b", "c"]))
    assert labelled_as(out) == {f"{i:03}.png": "abc"[i % 3] for i in range(12)}
    assert (
        "Integer classes count from 1, in the order of the classes: the checkpoint has 3 classes (a, …, c)." in found["notes"]
    )
    with pytest.raises(ValueError, match="has class 3, but the checkpoint has 2 classes: expected integers from 0 to 1"):
        index(Data(name=str(root)), out, network=network(tmp_path / "m", 2))


def rows(count: int, first: int = 0) -> str:
    return "file,label\n" + "".join(f"{i:03}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(first, first + count))


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (200, rows(201), "1 of 201 files in labels.csv do not exist; they are left out."),
        (201, rows(200), "1 of 201 images have no label in labels.csv; they are left out."),
        (200, rows(198) + "198.png,\n199.png,cat\n", "1 of 200 images have no label in labels.csv; they are left out."),
        (200, rows(200) + "199.png,cat\n", ""),
    ],
)
def test_a_few_that_do_not_match_are_counted(tree: Tree, out: Path, images: int, text: str, message: str) -> None:
    root = tree({"": images})
    (root / "labels.csv").write_text(text)
    assert index(Data(name=str(root)), out)["notes"][2:] == ([message] if message else [])


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (20, rows(22), r"2 of 22 files in labels.csv do not exist \(020.png, 021.png\), more than the allowed "
                       "1 %; complete the images, or remove the rows"),
        (22, rows(20),
         "2 of 22 images have no label in labels.csv, more than the allowed 1 %; complete"),
        (20, rows(20) + "001.png,dog\n",
         "labels.csv gives 001.png two classes, cat and dog; expected one row"),
        (20, rows(20, 500), "labels.csv has labels, but not for these images: its first row is 500.png, dog, an image has "
                            "the name 000.png; correct the names in the table, or move it out of DATA"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(tree: Tree, out: Path, images: int, text: str, message: str) -> None:
    root = tree({"": images})
    (root / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        index(Data(name=str(root)), out)
    assert "\n" not in str(refusal.value)


def test_two_tables(tree: Tree, out: Path) -> None:
    root = distinct(tree({"": COUNT}))
    (root / "labels.csv").write_text(rows(COUNT))
    (root / "again.json").write_text(json.dumps(EXPECTED))
    index(Data(name=str(root)), out)
    (root / "again.json").write_text(json.dumps(EXPECTED | {"000.png": "cat"}))
    with pytest.raises(ValueError, match=r"labels\.csv and .*again\.json|again\.json and .*labels\.csv label the same"):
        index(Data(name=str(root)), out)


def test_tables_beside_class_folders(tree: Tree, out: Path) -> None:
    """A table with the same classes, or with other things than classes, is harmless; other classes are a contradiction."""
    root = distinct(tree({"part-1": 10, "part-2": 10}))
    files = sorted(f"{path.parent.name}/{path.name}" for path in root.rglob("*.png"))
    (root / "sizes.csv").write_text("file,width,height\n" + "".join(f"{name},24,20\n" for name in files))
    (root / "labels.csv").write_text("file,label\n" + "".join(f"{name},{name[5]}\n" for name in files))
    assert index(Data(name=str(root)), out)["classes"] == ["part-1", "part-2"]
    (root / "labels.csv").write_text("file,label\n" + "".join(f"{name},{'ab'[int(name[-5]) % 2]}\n" for name in files))
    with pytest.raises(ValueError, match=re.escape("labels.csv and the class folders (part-1, part-2) label the same images")):
        index(Data(name=str(root)), out)


def test_files_that_are_no_tables_are_harmless(tree: Tree, out: Path, tmp_path: Path) -> None:
    root = tree({"": 5, "boxes": 0})
    for name, content in {
        "a.json": b"{", "b.json": b"[[[[", "c.csv": b"\xff\xfe\x00", "d.csv": b"", "e.txt": b"words, of any kind\nand more",
        "f.json": b'{"version": 1, "shapes": [], "imagePath": "000.png"}', "g.txt": b"0 0.5 0.5 0.1 0.1\n", "h.csv": b"id\n1\n",
    }.items():  # fmt: skip
        (root / name).write_bytes(content)
    found = index(Data(name=str(root)), out, network=network(tmp_path / "n", 2))
    assert (
        not found["labelled"]
        and found["notes"][1] == "8 files have suffixes that are not of images and were left out (.json, .csv, .txt)"
    )
