"""junit.xml: valid for any name, and counted as CI systems count."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from reports.junit import junit
from reports.render import render
from reports.rows import collect
from reports.schema import GateRow, Report

MakeRun = Callable[..., Path]
# Element: its required and its optional attributes, and its children in their order, as in Jenkins' schema of the format.
SCHEMA: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, set(), ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"}, {"timestamp"}, ["properties", "testcase"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name", "classname", "time"}, set(), ["skipped", "failure", "system-out"]),
    "skipped": ({"message"}, set(), []),
    "failure": ({"message"}, set(), []),
    "system-out": (set(), set(), []),
}  # fmt: skip


def check(element: ElementTree.Element) -> None:
    required, optional, children = SCHEMA[element.tag]
    assert required <= set(element.attrib) <= required | optional, element.tag
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places)
    for child in element:
        check(child)


def parsed(report: Report) -> ElementTree.Element:
    root = ElementTree.fromstring(junit(report).encode())
    check(root)
    return root


def outcomes(root: ElementTree.Element, target: str) -> dict[str, str]:
    """{gate: "failure", "skipped" or "pass"} of a target."""
    (suite,) = (suite for suite in root if suite.get("name") == target)
    return {
        str(case.get("name")): next((child.tag for child in case if child.tag != "system-out"), "pass")
        for case in suite.iter("testcase")
    }


def message(root: ElementTree.Element, target: str, name: str) -> str:
    (suite,) = (suite for suite in root if suite.get("name") == target)
    (case,) = (case for case in suite.iter("testcase") if case.get("name") == name)
    return str(case[0].get("message"))


FAIL, SKIP, PASS = "failure", "skipped", "pass"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, (PASS, PASS, PASS)),
        ({"wrong": {"student-int8": range(200)}}, (FAIL, FAIL, FAIL)),
        ({"wrong": {"student-int8": range(5)}}, (PASS, PASS, PASS)),
        ({"wrong": {"student-int8": range(28)}, "max_drop": 0.9}, (SKIP, PASS, SKIP)),  # loses 0.8 points
        ({"wrong": {"student-int8": range(0, 200, 10)}, "max_drop": 3.0}, (PASS, FAIL, FAIL)),  # all of one class
        ({"wrong": {"student-int8": range(0, 150, 10)}, "max_drop": 3.0}, (PASS, SKIP, PASS)),  # the class is suspicious
        ({"measured": False}, (SKIP, SKIP, SKIP)),
    ],
)
def test_a_case_per_gate_has_its_verdict(make_run: MakeRun, how: dict[str, Any], expected: tuple[str, ...]) -> None:
    root = parsed(collect(make_run(**how)))
    assert outcomes(root, "onnxruntime") == dict(zip(("top1", "classes", "engine"), expected, strict=True))


def test_without_labels_the_gate_is_agreement(make_run: MakeRun) -> None:
    assert list(outcomes(parsed(collect(make_run(labelled=False))), "onnxruntime")) == ["agreement", "classes", "engine"]


def test_every_limit_of_the_gate_is_a_case(make_run: MakeRun) -> None:
    out = make_run(wrong={"baseline-fp32": [], "student-int8": range(0, 200, 10)})
    record = json.loads((out / "run.json").read_text())
    record["gate"] |= {"max_drop": 3.0, "recall": {"a|b": 6, "T-shirt/top": 2}, "max_class_drop": None}
    (out / "run.json").write_text(json.dumps(record))
    root = parsed(collect(out))
    assert outcomes(root, "onnxruntime") == {"top1": PASS, "recall:a|b": PASS, "recall:T-shirt/top": FAIL, "engine": FAIL}
    assert outcomes(root, "tensorrt") == dict.fromkeys(outcomes(root, "onnxruntime"), SKIP)
    assert "+20.00 points of recall of class T-shirt/top lost" in message(root, "onnxruntime", "recall:T-shirt/top")


def test_what_is_skipped_has_its_reason(make_run: MakeRun) -> None:
    root = parsed(collect(make_run()))
    assert set(outcomes(root, "tensorrt").values()) == set(outcomes(root, "openvino").values()) == {SKIP}
    assert message(root, "tensorrt", "top1") == "student-int8/tensorrt: unmeasured: no GPU here"
    assert message(root, "openvino", "top1").endswith("openvino is not installed: pip install openvino")


def test_a_failed_class_is_named(make_run: MakeRun) -> None:
    root = parsed(collect(make_run(wrong={"student-int8": range(0, 200, 10)}, max_drop=3.0)))
    assert "class T-shirt/top: recall 98.0 % -> 80.0 % (100 images); the limit is 5 points" in message(
        root, "onnxruntime", "classes"
    )


def test_an_engine_that_fails_in_its_sequence_only_fails_as_an_engine(make_run: MakeRun) -> None:
    report = collect(make_run())
    (row,) = (row for row in report.rows if row.id == "student-int8/onnxruntime")
    rows = [row.model_copy(update={"standing": "fail"}) if other is row else other for other in report.rows]
    gates = [GateRow(id=entry.id, verdict="fail" if entry.id == row.id else entry.verdict) for entry in report.gate.rows]
    gate = report.gate.model_copy(update={"rows": gates})
    root = parsed(report.model_copy(update={"rows": rows, "gate": gate}))
    assert outcomes(root, "onnxruntime") == {"top1": PASS, "classes": PASS, "engine": FAIL}
    assert "a milder engine" in message(root, "onnxruntime", "engine")


@pytest.mark.parametrize("how", [{}, {"wrong": {"student-int8": range(200)}}, {"measured": False}])
def test_the_counts_are_those_of_the_cases(make_run: MakeRun, how: dict[str, Any]) -> None:
    out = make_run(**how)
    render(out)
    root = ElementTree.parse(out / "junit.xml").getroot()
    for element in (root, *root):
        assert int(element.attrib["tests"]) == len(list(element.iter("testcase"))) > 0
        assert int(element.attrib["failures"]) == len(list(element.iter("failure")))
        assert int(element.attrib["skipped"]) == len(list(element.iter("skipped")))
        assert element.attrib["errors"] == "0" and float(element.attrib["time"]) >= 0
    assert float(root.attrib["time"]) == sum(float(suite.attrib["time"]) for suite in root)
    for suite in root:
        assert sum(float(case.attrib["time"]) for case in suite.iter("testcase")) == float(suite.attrib["time"])


def test_the_time_of_a_suite_is_that_of_its_stages(make_run: MakeRun) -> None:
    report = collect(make_run())
    names = ["train", "latency onnxruntime", "predict student-int8/onnxruntime", "build student-int8/openvino"]
    stages = [report.stages[0].model_copy(update={"name": name}) for name in names]  # 2.5 s each
    root = parsed(report.model_copy(update={"stages": stages}))
    assert {suite.get("name"): suite.get("time") for suite in root} == {
        "onnxruntime": "5.000", "tensorrt": "0.000", "openvino": "2.500",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["\x00\x1b[31m", "]]></failure>", "<b>\"'&amp;", "\ud800", "\ufffe", "a\nb\tc", "حقيبة", "\N{HANDBAG}", "\x85\u2028"],
)
def test_any_name_and_any_reason_make_valid_xml(make_run: MakeRun, name: str) -> None:
    report = collect(make_run(wrong={"student-int8": range(200)}))
    rows = []
    for row in report.rows:
        update: dict[str, Any] = {"reason": name} if row.reason else {}
        if row.drop:
            classes = [entry.model_copy(update={"label": name}) for entry in row.drop.classes]
            update["drop"] = row.drop.model_copy(update={"classes": classes})
        rows.append(row.model_copy(update=update))
    root = parsed(report.model_copy(update={"rows": rows, "model": name}))
    kept = name if name.isprintable() or name in ("a\nb\tc", "\x85\u2028") else None
    if kept:
        assert root.get("name") == f"respress {kept}"
        assert kept in message(root, "onnxruntime", "classes") and kept in message(root, "openvino", "top1")
