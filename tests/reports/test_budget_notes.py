"""The notes on a budget after the engines were measured."""

from typing import Any

import pytest

from reports.budget_notes import budget_notes
from reports.schema import Latency, Row, Stage


def row(target: str, ships: bool, **fields: Any) -> Row:
    return Row(id=f"student-int8/{target}", network="student", precision="int8", target=target, status="measured",
               ships=ships, **fields)  # fmt: skip


SHIPPING = row(
    "onnxruntime", True, params=3_900_000, size_bytes=4_100_000, speedup=3.8,
    latency_ms=Latency(batch=1, threads=2, n=100, p50=0.525, p90=0.6, p99=0.7, mean=0.55),
)  # fmt: skip
OTHER = row("openvino", True, params=3_900_000)


def search(**limits: float) -> Stage:
    return Stage(name="search", seconds=1, cached=False, artifact="stages/search-1", metrics={"limits": limits})


@pytest.mark.parametrize(
    ("key", "most", "said"),
    [
        (
            "latency@onnxruntime",
            0.5,
            "BUDGET latency=0.5ms@onnxruntime: {} takes 0.525ms; limit 0.5ms not met (5.0 % too slow).",
        ),
        ("share@onnxruntime", 0.25, "BUDGET speedup=4@onnxruntime: {} reaches 3.8x; target 4x not met (5.3 % too slow)."),
        ("size@onnxruntime", 4.1e6, "BUDGET size=4.1MB@onnxruntime: {} has 4.1MB; limit 4.1MB met (0.0 % smaller)."),
        ("params", 4e6, "BUDGET params=4,000,000: {} has 3,900,000; limit 4,000,000 met (2.5 % fewer)."),
    ],
)
def test_the_engine_that_ships_is_compared_with_the_limit(key: str, most: float, said: str) -> None:
    assert list(budget_notes([search(**{key: most})], [SHIPPING])) == [said.format("student-int8/onnxruntime, which ships,")]


def test_only_engines_that_ship_and_were_measured_on_the_target() -> None:
    notes = list(budget_notes([search(**{"latency@onnxruntime": 0.5, "params": 4e6})], [SHIPPING, OTHER]))
    assert [note.split(":")[1].split("/")[1].split(",")[0] for note in notes] == ["onnxruntime", "onnxruntime", "openvino"]
    kept_back = SHIPPING.model_copy(update={"ships": False})
    assert not list(budget_notes([search(params=1.0)], [kept_back]))
    assert not list(budget_notes([search(**{"latency@openvino": 1.0})], [OTHER]))  # nothing was timed there


def test_in_a_sweep_every_budget_is_its_own_students() -> None:
    stage = search(params=4e6).model_copy(update={"name": "search params=4M"})
    assert not list(budget_notes([stage], [SHIPPING]))
    assert len(list(budget_notes([stage], [SHIPPING.model_copy(update={"variant": "params=4M"})]))) == 1
