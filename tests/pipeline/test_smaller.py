"""What goes first from a level of the search, blocks or channels, and what goes then. Nothing is pruned here."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compress.budget import OutOfReach
from core.cache import Artifact
from pipeline.builder import EngineBuilder
from pipeline.recipe import Recipe, load_recipe
from pipeline.smaller import Smaller

P50 = {"all": 2.0, "channels": 1.9, "blocks": 1.0}
QUICK = {"fewer": "blocks", "removed": 0.5, "p50": P50}


class Steps:
    """Runs no stage: `fewer` finds `quick`, and blocks can be dropped while `blocks` are left."""

    def __init__(self, quick: dict[str, Any], blocks: int = 9) -> None:
        self.quick, self.blocks, self.ran = quick, blocks, list[str]()

    def __call__(self, stage: Any, config: Any, label: str = "", **inputs: Any) -> Artifact:
        self.ran.append(stage.__name__)
        if stage.__name__ == "drop_blocks":
            if not self.blocks:
                raise OutOfReach("no more blocks")
            self.blocks -= 1
        top1 = {"norm_reestimated": 60.0 if "global" in label else 50.0}
        metrics = {**self.quick, "pruning_ratio": 0.5, "kept_blocks": [[0]], "val_top1": top1}
        return Artifact(Path(label), {"metrics": metrics})


def made(monkeypatch: pytest.MonkeyPatch, steps: Steps, *changes: tuple[str, Any], runs: bool = True) -> Smaller:
    monkeypatch.setattr(Smaller, "macs", lambda self, model: 100.0)
    monkeypatch.setattr(EngineBuilder, "runs", runs)
    recipe: Recipe = load_recipe("resnet20", None, dict(changes), ["onnxruntime"])
    base: Any = SimpleNamespace(teacher=Artifact(Path("teacher"), {}), baseline=None, images=None)
    return Smaller(recipe, steps, base)  # type: ignore[arg-type]


def test_blocks_go_first_where_that_is_quicker_and_channels_when_no_more_blocks_can(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(QUICK, blocks=1)
    making = made(monkeypatch, steps)
    note = making.choose_first(making.base.teacher)
    assert note == (
        "The search drops blocks first: without 50% of the MACs, INT8 on onnxruntime takes 1.00 ms with fewer blocks, "
        "1.90 ms with fewer channels, and 2.00 ms with all of them."
    )
    network, by = making.made("75%", 0.75, making.base.teacher)
    assert by == "blocks"
    assert making.made("50%", 0.5, network)[1] == "global"
    assert steps.ran.index("find_ratio") > steps.ran.index("drop_blocks")


@pytest.mark.parametrize(
    ("quick", "changes", "runs"),
    [
        ({"fewer": "channels", "removed": 0.5, "p50": P50}, (), True),
        ({"fewer": "channels"}, (), True),
        (QUICK, (("prefer", "size"),), True),
        (QUICK, (), False),
        (QUICK, (("levels.first", "channels"),), True),
    ],
    ids=["channels are as quick", "no blocks can go", "size is preferred", "nothing is timed", "the user says so"],
)
def test_channels_go_where_fewer_blocks_gain_nothing(
    monkeypatch: pytest.MonkeyPatch, quick: dict[str, Any], changes: tuple[tuple[str, Any], ...], runs: bool
) -> None:
    steps = Steps(quick)
    making = made(monkeypatch, steps, *changes, runs=runs)
    assert making.choose_first(making.base.teacher) is None
    assert making.made("50%", 0.5, making.base.teacher)[1] == "global" and "drop_blocks" not in steps.ran


def test_the_user_can_say_that_blocks_go(monkeypatch: pytest.MonkeyPatch) -> None:
    making = made(monkeypatch, Steps({}), ("levels.first", "blocks"))
    assert making.choose_first(making.base.teacher) is None
    assert making.made("50%", 0.5, making.base.teacher)[1] == "blocks"
