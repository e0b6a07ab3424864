"""Class names that a checkpoint states -> the class folders, whatever the spelling."""

import json
from pathlib import Path

import pytest

from data.network import Network, class_order, read_network, same_classes
from data.spec import Preprocessing

FOUND = ["Big_Dent", "ok", "scratch-2"]  # class folders, in the order of their names


def network(labels: list[str]) -> Network:
    return Network(len(labels), 3, labels, Preprocessing(), Preprocessing())


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["ok", "Big_Dent", "scratch-2"], ["ok", "Big_Dent", "scratch-2"]),
        (["OK", "big dent", "Scratch_2"], ["ok", "Big_Dent", "scratch-2"]),
        (["0 ok", "1 big dent", "2 scratch 2"], ["ok", "Big_Dent", "scratch-2"]),
        (["0: ok", "1: BigDent", "2: scratch2"], ["ok", "Big_Dent", "scratch-2"]),
        (["2,ok", "0,Big_Dent", "1,scratch-2"], ["Big_Dent", "scratch-2", "ok"]),
        (["ok", "no folder", "scratch-2", "big-dent"], ["ok", "no folder", "scratch-2", "Big_Dent"]),
    ],
)
def test_the_labels_are_mapped_on_the_folders(labels: list[str], order: list[str]) -> None:
    assert class_order("mine", FOUND, network(labels)) == order
    assert same_classes(order, network(labels)) is True
    assert same_classes(order[::-1], network(labels)) is False


def test_numbers_in_the_names_of_folders_stay() -> None:
    assert class_order("mine", ["0 cat", "1 dog"], network(["1 dog", "0 cat"])) == ["1 dog", "0 cat"]


def test_unlabelled_images_get_the_names_without_numbers() -> None:
    assert class_order("mine", None, network(["1: dog", "0: cat"])) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (
            ["ok", "dent", "scratch"],
            "DATA mine has 2 classes that labels.txt of the checkpoint does not have: Big_Dent, scratch-2",
        ),
        (
            ["ok", "big dent", "BIG_DENT", "scratch-2"],
            "labels.txt of the checkpoint has Big_Dent more than once",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(labels: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        class_order("mine", FOUND, network(labels))


def test_the_source_of_too_many_names_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"in_channels": 3, "num_classes": 2}))
    stated = tmp_path / "class_names.json"
    stated.write_text(json.dumps({"names": ["a", "b", "c"], "source": "class_to_idx in mine.pth"}))
    with pytest.raises(ValueError, match=r"^class_to_idx in mine.pth names 3 classes, the checkpoint has 2 outputs: .*"):
        read_network(tmp_path)
    stated.write_text(json.dumps({"names": ["b", "a"], "source": "classes in mine.pth"}))
    assert read_network(tmp_path).labels == ["b", "a"]
    (tmp_path / "labels.txt").write_text("a\nb\n")  # of the user's own
    assert read_network(tmp_path).labels == ["a", "b"]
