"""Training on two processes is that of one: the losses of 20 steps, the weights, the accuracy."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.compress.parts import TINY, part_of, tiny
from tests.compress.trained import BATCH, STEPS, WORK
from tests.conftest import Small
from tests.several import in_this_process, on_processes

MODULE = "tests.compress.trained"
VAL = 21  # images
UNSYNCHRONIZED = "train without synchronized batch norm"
pytestmark = pytest.mark.slow  # three processes import torch
Results = dict[int, tuple[dict[str, Any], Path]]


@pytest.fixture(scope="module")
def results(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What one process and two make of the WORK, and their folders."""
    given = tmp_path_factory.mktemp("given")
    part_of(small.images, given / "images", train=BATCH, val=VAL)
    tiny(given / "student")
    tiny(given / "teacher", TINY.model_copy(update={"stem_width": 16, "widths": (((24, 16),), ((16, 24),))}))
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    return {1: (in_this_process(MODULE, given, one), one), 2: (on_processes(2, MODULE, given, two), two)}


@pytest.mark.parametrize("name", sorted(WORK.keys() - {UNSYNCHRONIZED}))
def test_it_is_that_of_one_process(results: Results, name: str) -> None:
    (one, in_one), (two, in_two) = (results[count] for count in (1, 2))
    assert (one[name]["processes"], two[name]["processes"]) == (1, 2)
    assert losses(two[name]) == pytest.approx(losses(one[name]), abs=1e-4)
    assert accuracies(two[name]) == pytest.approx(accuracies(one[name]), abs=100 / VAL + 1e-9)  # one image, if INT8 rounds it
    expected, mine = (load_file(out / name / "model.safetensors") for out in (in_one, in_two))
    for key, tensor in mine.items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-3)
    left = {path.name for out in (in_one, in_two) for path in (out / name).iterdir()}
    assert left <= {"model.json", "model.safetensors", "gradients.json", "labels.txt", "preprocess.json"}


@pytest.mark.parametrize("name", ["train", "distill"])
def test_20_steps_are_compared_in_which_something_is_learned(results: Results, name: str) -> None:
    found = losses(results[2][0][name])
    assert len(found) == STEPS and found[-1] < found[0] - 0.02


def test_it_is_not_where_each_process_has_its_own_batch_norm(results: Results) -> None:
    one, two = (losses(results[count][0][UNSYNCHRONIZED]) for count in (1, 2))
    assert one == losses(results[1][0]["train"])  # with another average
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 1e-3


def accuracies(metrics: dict[str, Any]) -> list[float]:
    """Every top-1 on the held-out images."""
    found = [value for key, value in metrics.items() if "top1" in key]
    return [number for value in found for number in (value.values() if isinstance(value, dict) else [value])]


def losses(metrics: dict[str, Any]) -> list[float]:
    return [epoch["loss"] for epoch in metrics["history"]]
