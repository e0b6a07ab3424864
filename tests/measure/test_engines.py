"""Curves of real engines: the batches that are run, and the points. Nothing here depends on the speed of the machine."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from data.index import Data, index
from export import targets
from measure.calls import EngineError, Runner
from measure.engines import Measure, Predict, largest_batch, predict
from measure.latency import latency
from measure.throughput import affordable, throughput, throughput_of
from reports.schema import Throughput
from tests.conftest import Small

QUICK = {"queries": 1, "seconds": 0.01, "warmup": 0}


@pytest.fixture
def engine(small: Small, tmp_path: Path) -> Path:
    target, folder = targets.get("onnxruntime"), tmp_path / "engine"
    folder.mkdir()
    target.build(target.Options(), folder, model=small.onnx, images=small.images)
    return folder


def test_every_engine_gets_a_curve(small: Small, engine: Path, tmp_path: Path) -> None:
    config = Measure(throughput=(3, 1), **QUICK)
    load, engines = targets.get("onnxruntime").load, {"baseline-fp32": engine, "student-int8": engine}
    metrics = latency(config, tmp_path, load=load, engines=engines, images=small.images)
    for key in engines:
        points = [Throughput(**point) for point in metrics["throughput"][key]]
        assert [point.batch for point in points] == [1, 3]
        for point in points:
            assert point.n is not None and point.ms is not None and point.p90_ms is not None
            assert point.n >= 20 and 0 < point.ms <= point.p90_ms and point.images_per_s > 0
    json.dumps(metrics)


def test_engines_of_different_inputs_are_timed_together(small: Small, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    index(Data(train_limit=40, test_limit=2, input_size=48, resize="squash", channels=3), large)
    seen: dict[str, set[tuple[int, ...]]] = {"a": set(), "b": set()}

    def load(engine: Path, threads: int) -> Runner:
        def run(x: np.ndarray) -> np.ndarray:
            seen[engine.name].add(x.shape)
            return x

        return run

    engines, images = {"a": tmp_path / "a", "b": tmp_path / "b"}, {"a": small.images, "b": large}
    latency(Measure(throughput=(3,), **QUICK), tmp_path, load=load, engines=engines, images=images)
    assert seen == {"a": {(1, 1, 32, 32), (3, 1, 32, 32)}, "b": {(1, 3, 48, 48), (3, 3, 48, 48)}}


@pytest.mark.parametrize("where", ["opened", "timed", "run with more images"])
def test_the_error_of_an_engine_names_it(where: str, small: Small, tmp_path: Path) -> None:
    problem = MemoryError("too large")

    def load(engine: Path, threads: int) -> Runner:
        def run(x: np.ndarray) -> np.ndarray:
            if engine.name == "b" and (where == "timed" or len(x) > 1):
                raise problem
            return x

        if engine.name == "b" and where == "opened":
            raise problem
        return run

    engines = {name: tmp_path / name for name in "abc"}
    with pytest.raises(EngineError, match="b cannot be timed: too large") as caught:
        latency(Measure(throughput=(1, 3), **QUICK), tmp_path, load=load, engines=engines, images=small.images)
    assert caught.value.engine == "b" and caught.value.reason is problem


def test_engines_take_turns_batch_by_batch_and_see_every_image() -> None:
    batches_run: list[tuple[str, int]] = []
    seen: list[np.ndarray] = []

    def engine_called(name: str) -> Runner:
        def run(x: np.ndarray) -> np.ndarray:
            if (name, len(x)) not in batches_run:
                batches_run.append((name, len(x)))
                seen.append(x[:, 0, 0, 0])
            time.sleep(0.05)
            return x

        return run

    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    runners = {"a": engine_called("a"), "b": engine_called("b")}
    curves = throughput(
        Measure(throughput=(4, 1, 2, 2), warmup=0, calls=1), runners, {"a": images, "b": images}, {"a": 99, "b": 2}
    )
    assert batches_run == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 4)], "b was built for two images at most"
    assert seen[-1].tolist() == [0, 1, 2, 0], "a short test split is repeated"
    assert {name: [point["batch"] for point in points] for name, points in curves.items()} == {"a": [1, 2, 4], "b": [1, 2]}


def test_a_percentile_of_a_batch_has_twenty_calls_behind_it_where_they_fit_into_the_longest_call() -> None:
    def run(x: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return x

    x = np.zeros((2, 1, 1, 1), np.float32)
    assert throughput_of(run, x, Measure(warmup=0), seconds=0.0)["n"] == 20
    assert 2 <= throughput_of(run, x, Measure(warmup=0, longest=0.1), seconds=0.0)["n"] <= 5
    assert throughput_of(run, x, Measure(warmup=0, longest=0.001), seconds=0.0)["n"] == 1


def test_a_curve_ends_before_calls_get_too_long() -> None:
    at_8 = [{"batch": 8, "ms": 1000.0}]
    assert affordable([], 32, longest=3.0)
    assert affordable(at_8, 16, longest=3.0) and affordable(at_8, 24, longest=3.0)
    assert not affordable(at_8, 32, longest=3.0)


def test_no_engine_gets_a_larger_batch_than_it_was_built_for(small: Small, engine: Path, tmp_path: Path) -> None:
    manifest = engine / "manifest.json"
    manifest.write_text(json.dumps({"metrics": {}}))
    unlimited = largest_batch(engine)
    manifest.write_text(json.dumps({"metrics": {"batches": [1, 2, 5]}}))
    assert largest_batch(engine) == 5 < 10**6 < unlimited

    batches_run = set()

    def load(folder: Path, threads: int) -> Runner:
        run = targets.get("onnxruntime").load(folder, threads)

        def counted(x: np.ndarray) -> np.ndarray:
            batches_run.add(len(x))
            return run(x)

        return counted

    assert predict(Predict(), tmp_path, load=load, engine=engine, images=small.images)["n"] == 64
    assert batches_run == {5, 4}, "64 images are twelve batches of 5 and one of 4"


@pytest.mark.parametrize("wrong", [{"throughput": (0,)}, {"longest": 0}])
def test_senseless_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Measure(**wrong)  # type: ignore[arg-type]
