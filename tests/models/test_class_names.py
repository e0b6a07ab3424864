"""The ways in which checkpoints and the files beside them state the order of their classes."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.class_names import Stated, class_names

NAMES = ["crack_1", "crack_2", "crack_10"]
BY_NAME = {name: i for i, name in enumerate(NAMES)}
BY_OUTPUT = dict(enumerate(NAMES))
INSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "class_to_idx": ({"state_dict": {}, "class_to_idx": BY_NAME}, "class_to_idx"),
    "class_to_idx out of order": ({"class_to_idx": dict(reversed(BY_NAME.items()))}, "class_to_idx"),
    "class_to_idx of tensors": ({"class_to_idx": {n: torch.tensor(i) for n, i in BY_NAME.items()}}, "class_to_idx"),
    "class_to_idx of NumPy numbers": ({"class_to_idx": {n: np.int64(i) for n, i in BY_NAME.items()}}, "class_to_idx"),
    "idx_to_class": ({"idx_to_class": BY_OUTPUT}, "idx_to_class"),
    "idx_to_class of text": ({"idx_to_class": {str(i): n for i, n in BY_OUTPUT.items()}}, "idx_to_class"),
    "id2label": ({"config": {"id2label": BY_OUTPUT}}, "id2label"),
    "label2id": ({"config": {"label2id": BY_NAME}}, "label2id"),
    "classes": ({"classes": NAMES}, "classes"),
    "classes as a tuple, deep inside": ({"meta": {"dataset_meta": {"CLASSES": tuple(NAMES)}}}, "CLASSES"),
    "class_names": ({"hyper_parameters": {"class_names": NAMES}}, "class_names"),
    "label_names": ({"label_names": NAMES}, "label_names"),
    "names": ({"names": BY_OUTPUT}, "names"),
    "in the arguments of a script": ({"args": argparse.Namespace(class_names=NAMES)}, "class_names"),
    "beside a number of classes": ({"classes": 3, "labels": [0, 1, 2], "class_to_idx": BY_NAME}, "class_to_idx"),
    "beside placeholders": ({"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "classes": NAMES}, "classes"),
}
BESIDE: dict[str, tuple[str, Any]] = {
    "class_to_idx.json": ("class_to_idx.json", BY_NAME),
    "idx_to_class.json": ("idx_to_class.json", BY_OUTPUT),
    "labels.json, a list": ("labels.json", NAMES),
    "labels.json, by output": ("labels.json", BY_OUTPUT),
    "labels.json, by name": ("labels.json", BY_NAME),
    "labels.json with a field": ("labels.json", {"classes": NAMES}),
    "config.json of transformers": ("config.json", {"architectures": ["ResNet"], "id2label": BY_OUTPUT}),
    "config.json of timm": ("config.json", {"architecture": "resnet18", "pretrained_cfg": {"label_names": NAMES}}),
    "class_indices.json": ("class_indices.json", BY_OUTPUT),
    "class_indices.json, by name": ("class_indices.json", BY_NAME),
    "index_to_name.json of TorchServe": ("index_to_name.json", BY_OUTPUT),
    "label_map.json": ("label_map.json", BY_NAME),
    "classes.txt": ("classes.txt", "\n".join(NAMES) + "\n"),
}


@pytest.mark.parametrize("case", INSIDE)
def test_the_checkpoint_states_them(case: str, tmp_path: Path) -> None:
    content, field = INSIDE[case]
    assert class_names(content, tmp_path / "mine.pth") == Stated(NAMES, f"{field} in mine.pth")


@pytest.mark.parametrize("case", BESIDE)
def test_a_file_beside_it_states_them(case: str, tmp_path: Path) -> None:
    name, content = BESIDE[case]
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = class_names({"classes": ["another", "order"]}, tmp_path / "mine.pth")
    assert found is not None
    assert found.names == NAMES
    assert name in found.source


@pytest.mark.parametrize(
    "content",
    [
        {"conv1.weight": torch.zeros(1)}, {"classes": 10}, {"labels": [1, 2]}, {"names": {}}, {"class_to_idx": {"a": "b"}},
        {"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, ["a", "b"], torch.zeros(2),
    ],
)  # fmt: skip
def test_nothing_states_them(content: Any, tmp_path: Path) -> None:
    assert class_names(content, tmp_path / "mine.pth") is None


def test_digits_are_names_where_the_field_says_so(tmp_path: Path) -> None:
    found = class_names({"class_to_idx": {"1": 0, "10": 1, "2": 2}}, tmp_path / "mine.pth")
    assert found == Stated(["1", "10", "2"], "class_to_idx in mine.pth")


def test_numbers_with_a_gap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"class_to_idx in mine\.pth numbers its classes 1, 2; expected 0 … 1, each"):
        class_names({"class_to_idx": {"a": 1, "b": 2}}, tmp_path / "mine.pth")


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ValueError, match=r"labels.json cannot be read as JSON \(.*\); repair it, or remove it"):
        class_names({}, tmp_path / "mine.pth")
