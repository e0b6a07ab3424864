"""The benchmark of training speed: both loops do the same steps, and the table says what was measured."""

import copy
from pathlib import Path

import pytest
import torch

from benchmarks.table import OURS
from benchmarks.training import LAYOUTS, Way, bare_seconds, cells, compared, goal, main, product_seconds, random_images
from compress.schedule import Schedule
from data.augment import Augment
from data.loader import Split, batches
from models.resnet import ResNet
from tests.compress.parts import TINY

COLOUR = TINY.model_copy(update={"in_channels": 3})


def test_both_loops_take_the_same_steps(tmp_path: Path) -> None:
    """After one step at the same learning rate all networks have the same weights, up to the rounding of each layout."""
    random_images(tmp_path / "images", 16)
    schedule = Schedule(epochs=1, batch_size=16, warmup=0.0, augment=Augment(flip=True, shift=4))
    ready = list(batches(Split(tmp_path / "images", "train", schedule.augment), 16, shuffle=True))
    before = ResNet(COLOUR)
    ours, *bare = [copy.deepcopy(before) for _ in (OURS, *LAYOUTS)]
    assert product_seconds(ours, schedule, tmp_path / "images", "tiny") > 0
    for model, layout in zip(bare, LAYOUTS.values(), strict=True):
        assert bare_seconds(model, schedule, ready, layout) > 0
        moved, its = (one.fc.weight.detach() - before.fc.weight.detach() for one in (ours, model))
        assert torch.allclose(its, moved, atol=0.05 * float(moved.abs().max()))


def test_the_first_turn_is_not_counted() -> None:
    ways = compared(ResNet(COLOUR), Schedule(epochs=1, batch_size=8), 2, 1, "tiny")
    assert [len(way.speeds) for way in ways] == [1, 1, 1] and all(speed > 0 for way in ways for speed in way.speeds)


@pytest.mark.parametrize(
    ("ours", "verdict"), [([96.0, 98.0, 90.0], "0.960 (0.900 … 0.980). Goal: at least 0.95, met."), ([94.0] * 3, "missed.")]
)
def test_the_goal_is_the_median_against_the_faster_bare_loop(ours: list[float], verdict: str) -> None:
    ways = [Way("respress", ours), Way("slow", [50.0] * 3), Way("fast", [100.0] * 3)]
    assert goal(ways).startswith("respress / fast: ") and goal(ways).endswith(verdict)
    assert cells(ways)[2][1] == "100 (100 … 100)"


def test_a_model_becomes_a_section(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    main("resnet20", 0.5, 8, 1, 1, results)
    text = results.read_text()
    assert "## resnet20 without 50% of its channels, training speed" in text and "batch 8" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")] == [
        "| loop", "| respress", "| bare loop, channels_last", "| bare loop, [N, C, H, W]"
    ]  # fmt: skip
