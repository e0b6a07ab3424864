"""The reports for people and scripts: the contract's fields, the same numbers, and nothing that the browser should not run."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports import numbers
from reports.figures import SCRIPT
from reports.render import render

MakeRun = Callable[..., Path]

FIELDS = {
    "": "schema created command seconds environment model dataset stages rows gate per_class lost_images",
    "environment": "cpu cores threads isa gpu os versions",
    "dataset": "name classes input_shape splits labelled preprocess",
    "stages": "name seconds cached artifact metrics created machine versions",
    "rows": "id network precision target status reason artifact sha256 size_bytes params macs accuracy agreement drop "
    "latency_ms throughput batch_at_limit speedup speedup_turns memory_bytes first_inference_ms int8_share ships",
    "rows.accuracy": "top1 top5 correct n",
    "rows.drop": "points relative_percent upper_95 lost gained n verdict",
    "rows.latency_ms": "batch threads n p50 p90 p99 mean turns spread ended_by disturbed",
    "rows.throughput": "batch images_per_s ms p90_ms n",
    "gate": "metric max_drop strict verdict rows",
    "per_class": "row label n baseline_top1 top1 points lost gained",
    "lost_images": "row index name label baseline_answer answer",
}


def parts(report: Any, path: str) -> list[Any]:
    """All objects at `path`, a list standing for its elements; what is null has no fields."""
    found = [report]
    for name in path.split(".") if path else []:
        values = [part[name] for part in found]
        found = [item for value in values for item in (value if isinstance(value, list) else [value]) if item is not None]
    return found


@pytest.mark.parametrize("path", FIELDS)
def test_report_json_has_every_field_of_the_contract(make_run: MakeRun, path: str) -> None:
    out = make_run(wrong={"student-int8": range(20, 25)})
    render(out)
    found = parts(json.loads((out / "report.json").read_text()), path)
    assert found
    for part in found:
        assert set(FIELDS[path].split()) <= set(part)


def test_report_json_names_its_schema(make_run: MakeRun) -> None:
    out = make_run()
    render(out)
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == "respress.report/1"
    assert report["gate"]["metric"] == "top1"


def test_html_is_one_file_and_escapes_names(make_run: MakeRun) -> None:
    out = make_run()
    render(out)
    html = (out / "report.html").read_text()
    assert "&lt;b&gt;bag&lt;/b&gt;" in html and "<b>bag</b>" not in html
    assert not re.search(r"<link|<img|src=|href=|url\(|@import", html)


def test_the_only_script_is_the_one_that_sorts_and_nothing_may_be_requested(make_run: MakeRun) -> None:
    out = make_run()
    render(out)
    html = (out / "report.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert html.count("<script") == 1 and script == SCRIPT.read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[0] == "default-src 'none'" and f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy and "img-src data:" in policy.split("; ")


def test_agreement_has_the_fields_of_the_contract(make_run: MakeRun) -> None:
    out = make_run(labelled=False)
    render(out)
    found = parts(json.loads((out / "report.json").read_text()), "rows.agreement")
    assert found and all(set(part) == {"percent", "agreeing", "n"} for part in found)


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_readable_reports_carry_the_numbers_and_their_conditions(make_run: MakeRun, name: str) -> None:
    out = make_run(wrong={"student-int8": range(5)})
    report = render(out)
    text = (out / name).read_text()
    drop = next(row.drop for row in report.rows if row.id == "student-int8/onnxruntime")
    assert drop is not None
    for expected in (
        f"[{numbers.signed(drop.upper_95)}]",
        "0 / 15",
        "0.50 / 0.55 / 0.65",
        "8.00\N{MULTIPLICATION SIGN}",
        "16.2\N{MULTIPLICATION SIGN}",
        "batch 1, 2 threads",
        "10.50 MB",
        "no GPU here",
        "pip install openvino",
        "make compress MODEL=resnet101",
        "channels 1, input_size 32, resize pad, mean [0.286], std [0.353]",
        *report.notes,
    ):
        assert expected in text


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_nothing_measured_leaves_dashes(make_run: MakeRun, name: str) -> None:
    out = make_run(measured=False)
    render(out)
    text = (out / name).read_text()
    assert "needs another CPU" in text and numbers.DASH in text
    assert "None" not in text and "nan" not in text


def test_markdown_tables_keep_their_columns(make_run: MakeRun) -> None:
    out = make_run()
    render(out)
    lines = (out / "report.md").read_text().splitlines()
    table = [line.count("|") for line in lines[lines.index("<details><summary>Engines</summary>") :] if line.startswith("|")][
        :9
    ]
    assert len(table) == 9 and len(set(table)) == 1


def test_rendering_again_gives_the_same_files(make_run: MakeRun) -> None:
    out = make_run()
    render(out)
    files = "report.json", "report.md", "report.html", "junit.xml", "benchmark.json"
    first = {name: (out / name).read_bytes() for name in files}
    render(out)
    assert {name: (out / name).read_bytes() for name in files} == first


def test_none_is_never_a_number() -> None:
    formats = (numbers.fixed, numbers.signed, numbers.percent, numbers.milliseconds, numbers.megabytes, numbers.scaled)
    assert {number(None) for number in (*formats, numbers.times)} == {numbers.DASH}


def test_a_share_is_rounded_down() -> None:
    assert [numbers.percent(share) for share in (1.0, 0.99999, 0.5)] == ["100 %", "99.9 %", "50 %"]


def test_markdown_cell_stays_in_its_cell() -> None:
    assert numbers.cell("a|b\n<i>") == "a\\|b &lt;i>"
    assert numbers.cell("a\\|b") == "a\\\\\\|b", "a backslash of the text must not take that of the bar"
    assert numbers.cell("a\r\nb\u2028c\x0bd") == "a b c d"
    assert numbers.cell("&lt;b> R&D") == "&amp;lt;b> R&D"
