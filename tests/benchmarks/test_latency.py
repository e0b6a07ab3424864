"""Runs with known intervals: how many pairs agree. And the latency stage of two engines, run three times on real engines."""

from pathlib import Path

import pytest

from benchmarks.latency import Run, markdown, repeated, result_of, verdict
from core.cache import Artifact
from core.engine_name import EngineName
from export import targets
from measure.engines import Measure
from reports.run_folder import TargetResult
from tests.conftest import Small


def run(low: float, high: float, disturbed: int | None = 0) -> Run:
    return Run((low + high) / 2, low, high, disturbed, 20)


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        (0, "The intervals overlap in 45 of 45 pairs of runs. Goal: 19 of 20, met."),
        (1, "The intervals overlap in 36 of 45 pairs of runs. Goal: 19 of 20, missed."),
    ],
)
def test_pairs_of_runs_whose_intervals_overlap_are_counted(apart: int, expected: str) -> None:
    assert verdict([run(2.0, 2.1)] * (10 - apart) + [run(2.11, 2.2)] * apart) == expected


def test_intervals_that_touch_overlap() -> None:
    assert "1 of 1" in verdict([run(2.0, 2.1), run(2.1, 2.2)])


def test_the_table_has_the_disturbed_turns() -> None:
    assert markdown([run(2.0, 2.2, 3), run(2.0, 2.1, None)])[2:] == [
        "| 1 | 2.100 [2.000, 2.200] | 3 of 20 |",
        "| 2 | 2.050 [2.000, 2.100] | not watched |",
    ]


def test_the_stage_is_run_as_often_as_asked(small: Small, tmp_path: Path) -> None:
    target, baseline = targets.get("onnxruntime"), EngineName.baseline("onnxruntime")
    target.build(target.Options(), tmp_path, model=small.onnx, images=small.images)
    candidate = EngineName("student", "int8", "", "onnxruntime")
    engines = dict.fromkeys((baseline, candidate), Artifact(tmp_path, {"metrics": {}}))
    result = TargetResult("onnxruntime", engines=engines, candidate=candidate, latency=Artifact(tmp_path, {"metrics": {}}))
    assert result_of([result], "onnxruntime", tmp_path) is result
    runs = repeated(result, Measure(queries=10, warmup=0, throughput=(), threads=1), small.images, 3)
    assert len(runs) == 3 and all(run.low <= run.high and run.turns == 20 for run in runs)


def test_a_target_without_measured_engines_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"target openvino of .* has no two measured engines; expected another run"):
        result_of([TargetResult("openvino", unavailable="not installed")], "openvino", tmp_path)
