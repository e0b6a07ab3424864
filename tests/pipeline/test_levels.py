"""The search over levels: which levels it tries, where it stops, and what it takes. Nothing is trained here."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.budget import OutOfReach
from core.cache import Artifact
from measure.gate import Gate, drop_of
from measure.statistics import tango_lower
from measure.verdict import Drop
from pipeline import levels
from pipeline.levels import Found, hardest
from pipeline.minutes import Plan
from pipeline.recipe import Levels as Settings
from pipeline.recipe import load_recipe
from reports.level import Level
from tests.pipeline.untrained import Untrained, level_of

N = 4000
SHARES = (0.75, 0.5, 0.35, 0.25)


def dropped(points: float) -> Drop:
    """The drop of a network that loses `points` and gains nothing."""
    lost = round(points / 100 * N)
    return drop_of(np.ones(N, bool), np.arange(N) >= lost, 1.0)


class Scripted(Untrained):
    """Levels whose drops are given by share, after the short and after the whole training."""

    short_drops: Mapping[float, float]
    whole_drops: Mapping[float, float]
    reach: float

    def macs(self, model: Artifact) -> float:
        return 52.0 if model.path.name == "shallower" else 100.0

    def level(self, share: float, start: Artifact, whole: bool = False) -> str:
        if share < self.reach:
            raise OutOfReach("no")
        name = f"{100 * share:.0f}%"
        self.starts = {**getattr(self, "starts", {}), name: start}
        nearest = min(self.short_drops, key=lambda known: abs(known - share))
        self.networks[name] = Artifact(Path(name), {})
        self.tried[name] = level_of(name, share, 1, dropped(self.short_drops[nearest]))
        return name

    def trained(self, name: str, others: bool) -> Level:
        share = self.tried[name].share
        nearest = min(self.whole_drops, key=lambda known: abs(known - share))
        self.networks[name] = Artifact(Path(f"{name} trained"), {})
        self.tried[name] = level_of(name, share, 3, dropped(self.whole_drops[nearest]))
        return self.tried[name]


def found(
    monkeypatch: pytest.MonkeyPatch,
    short: Mapping[float, float],
    whole: Mapping[float, float],
    halvings: int = 0,
    reach: float = 0.0,
    slack: float = 1.0,
    student: str = "teacher",
    plan: Plan | None = None,
) -> Found:
    scripted = type("Given", (Scripted,), {"short_drops": short, "whole_drops": whole, "reach": reach})
    monkeypatch.setattr(levels, "Levels", scripted)
    recipe: Any = SimpleNamespace(
        levels=Settings(shares=SHARES, halvings=halvings, slack=slack), gate=Gate(max_drop=1.0), student=None
    )
    base: Any = SimpleNamespace(teacher=Artifact(Path("teacher"), {}))
    step: Any = lambda stage, config, **inputs: Artifact(Path(student), {})  # noqa: E731
    return hardest(recipe, step, base, plan or Plan())


def names(result: Found) -> list[str]:
    return [str(network.path) for network in result.networks.values()]


def test_the_hardest_level_that_does_not_certainly_lose_too_much_is_trained_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.1, 0.5: 0.5, 0.35: 1.1, 0.25: 3.0}, {0.35: 0.4})
    assert names(result) == ["50%", "35% trained"]
    assert [level.name for level in result.levels] == ["75%", "50%", "35%", "25%"]
    assert [level.epochs for level in result.levels] == [1, 1, 3, 1]


def test_a_level_may_lose_more_after_the_short_training_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {0.75: 0.7, 0.5: 1.3, 0.35: 4.0}
    assert names(found(monkeypatch, short, {0.5: 0.2, 0.75: 0.0}, slack=2.0)) == ["75%", "50% trained"]
    assert names(found(monkeypatch, short, {0.5: 0.2, 0.75: 0.0})) == ["75% trained"]


def test_the_whole_training_goes_to_a_level_that_it_can_be_expected_to_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {0.75: 0.2, 0.5: 0.7, 0.35: 1.8, 0.25: 1.9}
    result = found(monkeypatch, short, {0.5: 0.2}, slack=2.0)
    assert [level.epochs for level in result.levels] == [1, 3, 1, 1]
    assert names(result) == ["75%", "50% trained"]
    assert result.notes[0].startswith("35% and 25%: the drop after the short training is too large to expect a pass")


def test_where_no_level_can_be_expected_to_pass_the_mildest_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 1.8, 0.5: 1.9, 0.35: 9.0}, {0.75: 0.4}, slack=2.0)
    assert names(result) == ["75% trained"]


def test_nothing_harder_is_tried_after_a_level_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.1, 0.5: 5.0, 0.35: 0.0, 0.25: 0.0}, {0.75: 0.1})
    assert [level.name for level in result.levels] == ["75%", "50%"]
    assert names(result) == ["75% trained"]


def test_the_interval_between_a_level_that_is_left_and_one_that_is_lost_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {0.75: 0.1, 0.5: 0.5, 0.42: 0.6, 0.38: 4.0, 0.35: 5.0}
    result = found(monkeypatch, short, {0.42: 0.3}, halvings=2)
    assert [level.name for level in result.levels] == ["75%", "50%", "35%", "42%"], "38 % is too near to 42 %"
    assert names(result) == ["50%", "42% trained"]


def test_a_level_that_fails_after_the_whole_training_gives_way_to_the_one_below(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.1, 0.5: 0.9, 0.35: 1.2, 0.25: 3.0}, {0.75: 0.0, 0.5: 0.5, 0.35: 1.1})
    assert names(result) == ["75%", "50% trained"]


def test_an_inconclusive_level_gives_way_where_more_images_could_have_passed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.1, 0.5: 0.9, 0.35: 3.0}, {0.75: 0.0, 0.5: 0.9})
    assert dropped(0.9).verdict == "inconclusive"
    assert names(result) == ["75% trained"]


def test_on_few_images_the_search_does_not_go_on_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.pipeline.test_levels.N", 80)
    short = {0.75: 0.0, 0.5: 0.0, 0.35: 1.3, 0.25: 2.6}
    assert tango_lower(round(0.013 * 80), 0, 80) < 1
    result = found(monkeypatch, short, {0.5: 0.0})
    assert [level.name for level in result.levels] == ["75%", "50%", "35%"]
    assert names(result) == ["75%", "50% trained"], "no level can pass on 80 images, so the first one is taken"


@pytest.mark.parametrize("reach", [0.0, 1.0], ids=["all levels lose too much", "no channel can be removed"])
def test_without_a_level_the_network_as_it_came_is_left(monkeypatch: pytest.MonkeyPatch, reach: float) -> None:
    result = found(monkeypatch, {0.75: 9.0}, {0.75: 9.0}, halvings=2, reach=reach)
    assert names(result) == []


def test_a_student_with_fewer_blocks_is_a_level_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.52: 0.1, 0.35: 0.2, 0.25: 5.0}, {0.35: 0.1}, student="shallower")
    assert [level.name for level in result.levels] == ["52%", "35%", "25%"], "75 % and 50 % are no levels below it"
    assert names(result) == ["52%", "35% trained"]


def test_the_search_keeps_all_blocks_where_fewer_blocks_lose_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.0, 0.52: 9.0, 0.5: 0.2, 0.35: 9.0}, {0.5: 0.1}, student="shallower")
    assert [level.name for level in result.levels] == ["52%", "75%", "50%", "35%"]
    assert names(result) == ["75%", "50% trained"]
    assert "lost too much" in result.notes[0]


class Late(Plan):
    """The time is over after two levels."""

    limit = "MINUTES=5"

    def is_over(self, tried: int) -> bool:
        return tried >= 2


def test_when_the_time_is_over_the_levels_so_far_count_and_the_next_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, {0.75: 0.1, 0.5: 0.2, 0.35: 0.2}, {0.5: 0.1}, plan=Late())
    assert names(result) == ["75%", "50% trained"]
    assert result.notes == ("MINUTES=5 ended the search; with more time it would try 35% of MACs.",)


def test_the_search_is_on_unless_something_says_how_much_to_prune(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text("[train]\nepochs = 1\n[distill]\nepochs = 1\n")
    fixed = tmp_path / "fixed.toml"
    fixed.write_text("[prune]\npruning_ratio = 0.3\n[train]\nepochs = 1\n[distill]\nepochs = 1\n")
    cases: list[tuple[Path, dict[str, Any], bool]] = [
        (plain, {}, True),
        (fixed, {}, False),
        (fixed, {"levels.on": True}, True),
        (plain, {"prune.pruning_ratio": 0.4}, False),
        (plain, {"budget.max_params": 1e6}, False),
        (plain, {"levels.on": False}, False),
        (plain, {"finetune": False, "checkpoint": "x.pth"}, False),
    ]
    for file, changes, expected in cases:
        assert load_recipe("resnet20", file, changes, []).levels.on is expected, changes
    with pytest.raises(ValueError, match="pass one of them"):
        load_recipe("resnet20", plain, {"levels.on": True, "budget.max_params": 1e6}, [])
