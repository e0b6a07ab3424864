"""Latencies of engines whose clock is a script: which turns are taken, repeated and counted, and what is recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import measure.calls
import measure.latency
from measure.calls import Runner, timed
from measure.engines import Measure
from measure.latency import QUANTILES, latency
from measure.watch import Seen
from tests.conftest import Small

CALM = Seen(others=0.0, stolen=0.0, throttled=False, clock=None, celsius=None)
LOADED = Seen(others=9.0, stolen=0.0, throttled=False, clock=None, celsius=None)


class Clock:
    """Stands still but while an engine runs. `called` has the engine of every call."""

    def __init__(self) -> None:
        self.now, self.called = 0.0, list[str]()

    def __call__(self) -> float:
        return self.now

    def engine(self, name: str, seconds: Callable[[int], float]) -> Runner:
        """An engine that takes `seconds`, given the number of its call."""

        def run(x: np.ndarray) -> np.ndarray:
            self.now += seconds(self.called.count(name))
            self.called.append(name)
            return x

        return run


class Script:
    """Takes the place of `Watch`: what it has seen in each turn, one after the other; None: not watched."""

    def __init__(self, turns: Sequence[Seen | None]) -> None:
        self.turns, self.cpus = iter(turns), [0, 1]

    def sample(self) -> None:
        return None

    def since(self, before: None) -> Seen | None:
        return next(self.turns, CALM)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(measure.calls, "perf_counter", found)
    return found


@pytest.fixture
def measured(clock: Clock, monkeypatch: pytest.MonkeyPatch, small: Small, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`measured({engine: seconds of a call}, [what is seen in each turn], key=value, …)` -> the metrics of `latency`."""

    def run(engines: dict[str, float], turns: Sequence[Seen | None] = (), **changes: Any) -> dict[str, Any]:
        monkeypatch.setattr(measure.latency, "Watch", lambda: Script(turns))
        monkeypatch.setattr(measure.latency, "throughput", lambda *_: {})
        config = Measure(**{"threads": 2, "warmup": 0, "throughput": (1,), **changes})
        folders = {name: tmp_path / name for name in engines}

        def load(engine: Path, threads: int) -> Runner:
            return clock.engine(engine.name, lambda _: engines[engine.name])

        return latency(config, tmp_path, load=load, engines=folders, images=small.images)

    return run


def test_engines_alternate_and_every_other_round_is_in_reverse_order(measured: Callable[..., Any], clock: Clock) -> None:
    metrics = measured({"a": 0.002, "b": 0.001}, queries=20)
    assert metrics["timed"]["a"]["n"] == 20, "two queries in each of ten turns"
    order = [name for i, name in enumerate(clock.called) if i % 3 == 0]  # a turn: one call of warm-up, two queries
    assert order == ["a", "b", "b", "a"] * 5


def test_the_figures_of_an_engine(measured: Callable[..., Any]) -> None:
    metrics = measured({"a": 0.002, "b": 0.001})
    found = metrics["timed"]["a"]
    assert (found["p50"], found["p90"], found["p99"], found["mean"]) == (2.0, 2.0, 2.0, 2.0)
    assert found["quantiles"] == [2.0] * len(QUANTILES) and list(QUANTILES) == sorted(QUANTILES) and QUANTILES[2] == 50
    assert found["turns"] == pytest.approx([2.0] * 10) and found["spread"] == pytest.approx(0, abs=1e-3)
    assert (found["n"], found["ended_by"], found["disturbed"]) == (1030, "queries", 0.0)
    assert metrics["ratios"]["a"]["b"] == pytest.approx([2.0, 2.0])
    assert metrics["machine"]["turns"] == 20 and metrics["machine"]["disturbed"] == 0


@pytest.mark.parametrize(
    ("seconds", "n", "ended_by"), [(0.001, 1030, "queries"), (0.02, 250, "seconds"), (2.0, 100, "seconds")]
)
def test_1024_queries_or_five_seconds_whichever_is_less(
    measured: Callable[..., Any], seconds: float, n: int, ended_by: str
) -> None:
    found = measured({"a": seconds})["timed"]["a"]
    assert (found["n"], found["ended_by"]) == (pytest.approx(n, abs=10), ended_by)


def test_a_warm_up_lasts_as_long_as_it_says(clock: Clock) -> None:
    taken = timed(clock.engine("a", lambda call: 0.05 if call < 4 else 0.01), np.zeros(1), 5, warmup=0.19)
    assert taken == pytest.approx([0.01] * 5)


@pytest.mark.parametrize("fewer", [9, 1])
def test_fewer_than_ten_turns_are_refused(fewer: int) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 10"):
        Measure(turns=fewer)


def test_a_disturbed_round_is_repeated(measured: Callable[..., Any], clock: Clock) -> None:
    metrics = measured({"a": 0.002, "b": 0.001}, [CALM, LOADED, CALM, CALM, LOADED], queries=10)
    machine = metrics["machine"]
    assert (machine["turns"], machine["disturbed"], machine["repeated"], machine["reasons"]) == (20, 0, 4, {})
    assert metrics["timed"]["a"]["disturbed"] == metrics["timed"]["b"]["disturbed"] == 0.0
    assert clock.called.count("a") == 2 * 12, "twelve rounds of one call of warm-up and one query"


def test_what_stays_disturbed_is_counted_and_as_many_turns_again_are_the_most(
    measured: Callable[..., Any], clock: Clock
) -> None:
    metrics = measured({"a": 0.002}, [LOADED] * 13, queries=10)
    assert clock.called.count("a") == 2 * 20
    machine, found = metrics["machine"], metrics["timed"]["a"]
    assert found["disturbed"] == 0.3 and len(found["turns"]) == 10, "the seven calm turns and three others"
    assert (machine["disturbed"], machine["repeated"]) == (3, 10)
    assert machine["reasons"] == {"load of other processes": 3}


def test_a_lower_clock_is_one_below_that_of_other_turns(measured: Callable[..., Any]) -> None:
    slow, fast = (Seen(0.0, 0.0, False, clock, None) for clock in (1500.0, 3000.0))
    metrics = measured({"a": 0.002}, [slow, *[fast] * 10], queries=10)
    assert (metrics["machine"]["repeated"], metrics["machine"]["disturbed"]) == (1, 0)
    assert metrics["machine"]["clock_mhz"] == [3000.0, 3000.0]


def test_where_nothing_can_be_watched_nothing_is_repeated(measured: Callable[..., Any]) -> None:
    metrics = measured({"a": 0.002}, [None] * 20, queries=10)
    assert metrics["machine"] == {"watched": False} and metrics["timed"]["a"]["disturbed"] is None


@pytest.mark.parametrize(
    ("queries", "most", "turns"), [(10, 10, 10), (1024, None, 10), (1024, 103, 10), (1024, 100, 11), (1000, 50, 20)]
)
def test_a_turn_has_at_most_so_many_queries(queries: int, most: int | None, turns: int) -> None:
    assert Measure(queries=queries, round=most).planned_turns == turns
