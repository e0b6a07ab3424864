"""MINUTES: how the time of a run is counted and divided."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compress.distill import Distill
from core.cache import Artifact
from pipeline.clock import Clock, clock_of
from pipeline.minutes import LEAST, Plan
from pipeline.recipe import Levels, load_recipe

BEGUN = "2026-01-01T10:00:00+00:00"


class Run:
    """A run with stages that took so many seconds."""

    def __init__(self, *seconds: float) -> None:
        self.used = [stage(each) for each in seconds]


def stage(seconds: float, created: str = "2026-01-01T10:05:00+00:00") -> Artifact:
    return Artifact(Path("stage"), {"seconds": seconds, "created": created})


def plan(minutes: float, run: Any, engines: float = 60.0) -> Plan:
    return Plan.of(Clock(minutes, BEGUN, run), engines)


def recipe(epochs: int = 10, shares: tuple[float, ...] = (0.75, 0.5, 0.35)) -> Any:
    return SimpleNamespace(distill=Distill(epochs=epochs), levels=Levels(shares=shares))


def test_stages_of_before_the_run_take_none_of_its_time() -> None:
    run: Any = Run(100, 200)
    run.used.append(stage(1000, created="2026-01-01T09:59:59+00:00"))
    clock = Clock(10, BEGUN, run)
    assert clock.spent == 300 and clock.left == 300


def test_the_same_minutes_continue_and_others_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Run()
    times = iter(["1", "2", "3"])
    monkeypatch.setattr("pipeline.clock.now", lambda: next(times))
    begun = []
    for minutes in (20, 20, 60, 20):
        clock = clock_of(minutes, run, tmp_path)
        assert clock
        begun.append(clock.begun)
    assert begun == ["1", "1", "2", "1"]
    assert clock_of(None, run, tmp_path) is None


def test_the_levels_leave_time_for_the_whole_training_and_the_engines() -> None:
    run: Any = Run(60)
    made = plan(21, run, engines=200)
    assert made.training == 1000 and made.left == 1000
    run.used.append(stage(300))
    assert made.left == 700 and not made.is_over(tried=1)
    short = made.short(recipe(), tried=1)
    assert short.most_minutes == pytest.approx((700 - 600) / 2 / 60, abs=1e-3) and short.epochs == 1 and short.minutes is None
    run.used.append(stage(101))
    assert made.is_over(tried=2)
    last, first = made.long(recipe(), others=False), made.long(recipe(), others=True)
    assert last and last.minutes == pytest.approx(599 / 60, abs=1e-3)
    assert first and first.minutes == pytest.approx(0.75 * 599 / 60, abs=1e-3)


def test_without_time_nothing_more_is_trained() -> None:
    made = plan(2, Run(115), engines=0)
    assert made.is_over(tried=0) and made.long(recipe(), others=False) is None
    assert not plan(2, Run(120 - LEAST), engines=0).is_over(tried=0)


def test_without_minutes_the_epochs_count() -> None:
    made = Plan.of(None, 100)
    assert not made.is_over(tried=99)
    assert made.short(recipe(), 0).epochs == 1 and made.short(recipe(46), 0).epochs == 5
    assert made.short(recipe(), 0).most_minutes is None and made.long(recipe(), True) == recipe().distill


def test_the_plan_names_levels_epochs_and_the_time() -> None:
    pace = {"images_per_second": 500.0, "seconds_per_epoch": 120.0, "steps": 400}
    assert Plan.of(None, 0).text(recipe(), pace) == (
        "plan: at most 3 levels of 1 epoch, then 10 epochs for the one that is taken; 500 images/s and 2 min an epoch at full "
        "width, so at most about 18 min of training"
    )
    text = plan(20, Run(120), engines=180).text(recipe(), pace)
    assert (
        ". MINUTES=20: 2.0 min are spent, the levels get 6.0, the one that is taken 9.0, the engines 3.0; the run ends" in text
    )


def test_minutes_also_bound_the_training_of_a_baseline() -> None:
    assert load_recipe("resnet18", None, {"minutes": 20}, []).train.most_minutes == 10
    assert load_recipe("resnet18", None, {"minutes": 20, "checkpoint": "x.pth"}, []).train.most_minutes is None
    assert load_recipe("resnet18", None, {}, []).train.most_minutes is None
