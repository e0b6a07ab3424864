"""benchmark.json: what github-action-benchmark reads, and only measured values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports.render import render
from reports.schema import Report

MakeRun = Callable[..., Path]


def values(out: Path) -> tuple[Report, dict[str, dict[str, Any]]]:
    report = render(out)
    found = json.loads((out / "benchmark.json").read_text())
    assert len({entry["name"] for entry in found}) == len(found), "a name is a curve"
    for entry in found:
        assert {"name", "unit", "value", "extra"} <= set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], (int, float))
        assert all(isinstance(entry[key], str) for key in entry if key != "value")
    return report, {entry["name"]: entry for entry in found}


def test_the_values_are_those_of_the_report(make_run: MakeRun) -> None:
    report, found = values(make_run())
    (row,) = (row for row in report.rows if row.id == "student-int8/onnxruntime")
    assert row.drop
    expected = {
        "resnet101 onnxruntime ships: p50": ("ms", 0.5),
        "resnet101 onnxruntime ships: size": ("bytes", 10_500_000),
        "resnet101 onnxruntime ships: top-1 drop": ("points", row.drop.points),
        "resnet101 onnxruntime baseline: p50": ("ms", 4.0),
        "resnet101 onnxruntime baseline: size": ("bytes", 170_000_000),
    }
    assert {name: (entry["unit"], entry["value"]) for name, entry in found.items() if " onnxruntime " in name} == expected
    assert "student-int8/onnxruntime" in found["resnet101 onnxruntime ships: p50"]["extra"]


def test_what_was_not_measured_has_no_value(make_run: MakeRun) -> None:
    _, found = values(make_run())
    assert {name for name in found if " tensorrt " in name} == {
        "resnet101 tensorrt ships: size", "resnet101 tensorrt baseline: size",
    }  # fmt: skip
    assert not [name for name in found if "openvino" in name]


def test_an_engine_that_does_not_ship_has_no_value(make_run: MakeRun) -> None:
    _, found = values(make_run(wrong={"student-int8": range(200)}))
    assert not [name for name in found if "onnxruntime" in name]


def test_without_labels_it_has_the_share_of_different_predictions(make_run: MakeRun) -> None:
    _, found = values(make_run(labelled=False))
    assert "resnet101 onnxruntime ships: different predictions" in found
