"""GATE from the command line to the report: what it may say, when it is refused, and a run that is judged by it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from measure.gate import Gate
from pipeline import api
from pipeline.__main__ import main
from pipeline.gates import check_classes
from pipeline.options import common
from tests.pipeline.test_choose import Rungs, keys, run

FMNIST = {"data.train_limit": 100, "data.test_limit": 40}


def gate(text: str = "", max_drop: float | None = None, budget: str = "") -> dict[str, Any]:
    """What the command line says, as the keys of the recipe's section gate."""
    changes = common(None, max_drop, False, budget, True, None, text)
    return {key.removeprefix("gate."): value for key, value in changes.items() if key.startswith("gate.")}


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        ({}, {"top1": 1}),
        ({"text": "top1=1"}, {"top1": 1}),
        ({"text": " Top1 = .5 "}, {"top1": 0.5}),
        ({"text": "top1=-2"}, {"top1": -2}),  # it must be better by 2 points
        ({"max_drop": 2}, {"top1": 2}),
        ({"max_drop": 2, "text": "top1=2"}, {"top1": 2}),
        ({"budget": "drop=2"}, {"top1": 2}),
        ({"budget": "drop=2", "text": "top1=2", "max_drop": 2}, {"top1": 2}),
        ({"text": "recall:crack=0.5"}, {"recall:crack": 0.5}),  # top-1 is no gate
        ({"text": "recall:crack=0.5", "max_drop": 2}, {"top1": 2, "recall:crack": 0.5}),
        ({"text": "balanced=1", "budget": "drop=2"}, {"top1": 2, "balanced": 1}),
        ({"text": "worst_class=2,balanced=1"}, {"worst_class": 2, "balanced": 1}),
        (
            {"text": "recall:T-shirt/top=1, recall:a=b=2,recall:x:y=3, top1=1"},
            {"top1": 1, "recall:T-shirt/top": 1, "recall:a=b": 2, "recall:x:y": 3},
        ),
    ],
)
def test_what_is_said_of_the_gate(said: dict[str, Any], limits: dict[str, float]) -> None:
    assert Gate(**gate(**said)).limits == limits


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"text": "accuracy=1"}, "GATE 'accuracy=1' is not understood; expected top1=1, recall:NAME=0.5, worst_class=2 or"),
        ({"text": "top1"}, "GATE 'top1' is not understood"),
        ({"text": "recall=1"}, "GATE 'recall=1' is not understood"),
        ({"text": "recall:=1"}, "GATE 'recall:=1' is not understood"),
        ({"text": "top1:crack=1"}, "GATE 'top1:crack=1' is not understood"),
        ({"text": "worst_class:crack=1"}, "is not understood"),
        ({"text": "top1=few"}, "'few' is not a number of percentage points"),
        ({"text": "recall:crack="}, "'' is not a number of percentage points"),
        ({"text": "balanced=nan"}, "'nan' is not a number"),
        ({"text": "balanced=inf"}, "'inf' is not a number"),
        ({"text": "worst_class=-1"}, "limited to 0 or more points, and less than 100"),
        ({"text": "worst_class=100"}, "limited to 0 or more points, and less than 100"),
        ({"text": "top1=1,top1=2"}, "has top1 twice"),
        ({"text": "recall:a=1,recall:a=1"}, "has recall:a twice"),
        ({"text": "top1=1", "max_drop": 2}, "MAX_DROP=2 and GATE top1=1 are different limits of top-1; pass one of them"),
        ({"budget": "drop=1", "max_drop": 2}, "MAX_DROP=2 and BUDGET drop=1 are different limits of top-1"),
        ({"budget": "drop=1", "text": "top1=2"}, "BUDGET drop=1 and GATE top1=2 are different limits of top-1"),
    ],
)
def test_a_gate_that_cannot_be_read_is_refused_in_one_line(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        gate(**said)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bag", "the nearest: Bag"),
        ("Sandals", "the nearest: Sandal"),
        ("crack", "its classes: T-shirt/top, Trouser"),
    ],
)
def test_a_class_that_the_data_does_not_have_is_refused_before_a_baseline_is_trained(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise AssertionError("a baseline is trained")

    monkeypatch.setattr("pipeline.baseline.train", train)
    with pytest.raises(ValueError, match=f"GATE recall:{name} is of a class that DATA fashion-mnist does not have; {message}"):
        api.compress("resnet20", out=tmp_path, targets=["onnxruntime"], gate=f"recall:{name}=1", changes=FMNIST)


def test_of_many_classes_some_are_named() -> None:
    check_classes({"7": 1.0}, "many", [str(i) for i in range(1000)])
    with pytest.raises(ValueError, match=r"its classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …$"):
        check_classes({"crack": 1.0}, "many", [str(i) for i in range(1000)])


def test_the_engine_is_chosen_by_the_gates_of_classes(tmp_path: Path) -> None:
    """Of 400 images of class 3, the quickest engine loses 10."""
    scene = {"int8": 100, "fp16": 0}, {"int8": 1, "fp16": 3}
    own = Gate(max_drop=None, max_class_drop=None, recall={"3": 1.5})
    for i, (limits, chosen) in enumerate([(Gate(max_drop=5), "int8"), (own, "fp16")]):
        result, _ = run(tmp_path / str(i), *scene, gate=limits)
        assert keys(result.judged)[-1] == chosen


@pytest.mark.parametrize(
    ("limit", "tried"),
    [
        (0.1, ["fail", "fail"]),  # no engine can pass on 400 images: it ends where a rung is no better than the one before
        (1.0, ["inconclusive", "inconclusive", "pass"]),
    ],
)
def test_the_ladder_ends_where_a_class_has_too_few_images(tmp_path: Path, limit: float, tried: list[str]) -> None:
    limits = Gate(max_drop=100, max_class_drop=None, recall={"3": limit})
    result, _ = run(tmp_path, Rungs({"int8": 200}, [10, 10, 0, 0, 0]), {"int8": 1}, gate=limits)
    assert [rung.verdict for rung in result.rungs] == tried
    assert [rung.too_few for rung in result.rungs] == [False] * (len(tried) - 1) + [limit < 0.5]


QUICK = [
    "data.train_limit=640", "data.test_limit=300", "expect.top1=0", "train.epochs=1", "distill.epochs=1", "distill.min_steps=0",
    "calibrate.images=64", "prune.norm_images=64", "prune.pruning_ratio=0.5", "measure.queries=10",
    "measure.throughput=[1]", "measure.warmup=0", "ladder.rungs=[]",
]  # fmt: skip


def respress(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_a_run_is_judged_by_its_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny network: only the gates are judged, top-1 is reported; then the same engines under another gate."""
    changes = [part for change in QUICK for part in ("--set", change)]
    command = ["compress", "tests.compress.parts:own_network", "--targets", "onnxruntime", "--out", str(tmp_path), *changes]
    code = respress(monkeypatch, *command, "--gate", "recall:Bag=100,worst_class=99,balanced=101")
    assert code == 0
    assert "too few" not in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    row = next(row for row in report["rows"] if row["id"] == "student-int8/onnxruntime")
    assert report["gate"]["max_drop"] is None and report["gate"]["recall"] == {"Bag": 100}
    assert [each["name"] for each in row["drop"]["gates"]] == ["recall:Bag", "worst_class", "balanced"]
    assert row["drop"]["gates"][0]["n"] == next(entry["n"] for entry in report["per_class"] if entry["label"] == "Bag")
    assert row["drop"]["gates"][2]["verdict"] == "pass"

    again = respress(monkeypatch, *command, "--gate", "recall:Bag=-200,recall:Coat=0.001")
    assert again == 1, "it cannot gain 200 points"
    printed = " ".join(capsys.readouterr().out.split())
    assert 0 < printed.index("too few for recall:Coat=0.001: even an engine") < printed.index("gate: fail")
    assert respress(monkeypatch, "report", str(tmp_path)) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["gate"]["verdict"] == "fail" and not any(row["ships"] for row in report["rows"])
    assert any("recall:Bag=-200: " in note and "fails the gate and does not ship" in note for note in report["notes"])
