"""Three processes divide images among them: each image counts once, the parts add up, an error of one ends the call on all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import hardware
from tests.conftest import Small
from tests.core.shared import IMAGES, PRIME, numbered
from tests.several import in_this_process, on_processes

MODULE = "tests.core.shared"
RANKS = 3
pytestmark = pytest.mark.slow  # three processes import torch
Results = dict[int, tuple[dict[str, Any], Path]]


@pytest.fixture(scope="module")
def results(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What one process and three make of the WORK, and their folders."""
    given = tmp_path_factory.mktemp("given")
    numbered(given / "numbered", small.images)
    (given / "images").symlink_to(small.images)
    (given / "onnx").symlink_to(small.onnx)
    one, three = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("three")
    return {1: (in_this_process(MODULE, given, one), one), RANKS: (on_processes(RANKS, MODULE, given, three), three)}


@pytest.mark.parametrize("count", [1, RANKS])
def test_10_001_images_are_predicted_once_each_and_in_their_order(results: Results, count: int) -> None:
    found, out = results[count][0]["predict"], results[count][1] / "predict"
    assert len(found["seen"]) == count
    assert all(abs(len(numbers) - IMAGES / count) < 1 for numbers in found["seen"].values())
    assert sorted(number for numbers in found["seen"].values() for number in numbers) == list(range(IMAGES))
    assert (found["n"], found["correct"], found["top1"]) == (IMAGES, IMAGES, 100.0)
    assert found["files"] == ["predictions.npz"]
    with np.load(out / "predictions.npz") as arrays:
        assert np.array_equal(arrays["labels"], PRIME * np.arange(IMAGES) % 10)
        assert np.array_equal(arrays["top5"], (arrays["labels"][:, None] + np.arange(5)) % 10)


def test_engines_divide_the_cores(results: Results) -> None:
    assert list(results[1][0]["predict"]["seen"]) == [f"rank 0, {hardware.cores()} threads"]
    each = max(1, hardware.cores() // RANKS)
    assert sorted(results[RANKS][0]["predict"]["seen"]) == [f"rank {rank}, {each} threads" for rank in range(RANKS)]


def test_ranges_are_those_of_one_process(results: Results) -> None:
    one, three = (results[count][0]["calibrate"] for count in (1, RANKS))
    assert (three["images"], three["tensors"]) == (one["images"], one["tensors"])
    assert one["images"] == 144  # nine whole batches
    for name, bounds in one["ranges"].items():
        assert three["ranges"][name] == pytest.approx(bounds, rel=1e-5), name


def test_every_rank_has_a_part_and_its_share_of_the_cores(results: Results) -> None:
    found = results[RANKS][0]["parts"]
    each = max(1, hardware.cores() // RANKS)
    assert found["parts"] == [[0, [0, 1, 2], each], [1, [3, 4, 5], each], [2, [6, 7, 8, 9], each]]
    assert found["first"] == [True, False, False]
    assert (found["size"], found["size afterwards"], found["cores afterwards"]) == (RANKS, 1, hardware.cores())
    alone = results[1][0]["parts"]
    assert alone["parts"] == [[0, list(range(10)), hardware.cores()]] and alone["size"] == 1


def test_images_or_batches_are_divided(results: Results) -> None:
    order = [PRIME * number % 10 for number in range(11)]
    whole = [order[:4], order[4:8], order[8:]]
    found = results[RANKS][0]["batches"]
    assert found["None"] == [whole] * RANKS
    assert found["images"] == [[order[:3]], [order[3:7]], [order[7:]]]
    assert found["batches"] == [
        [order[0:1], order[4:5], order[8:9]],
        [order[1:2], order[5:6], order[9:10]],
        [order[2:4], order[6:8], order[10:]],
    ]
    assert results[1][0]["batches"] == {"None": [whole], "images": [whole], "batches": [whole]}


def test_an_error_of_any_rank_is_that_of_the_call_and_the_next_call_works(results: Results) -> None:
    assert results[RANKS][0]["errors"] == [f"rank {rank} cannot read errors" for rank in range(RANKS)]
