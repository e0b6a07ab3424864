"""The visible part of report.md: at most 15 lines, with the figures that a reviewer needs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.digest import file_digest
from measure.statistics import tango_lower
from reports import numbers
from reports.render import render, text
from reports.rows import collect
from reports.schema import GateRow, Report
from reports.summary import SHOWN

MakeRun = Callable[..., Path]
MEASURED = ("baseline-fp32", "student-int8")


def on_targets(report: Report, names: Sequence[str]) -> Report:
    """The report with the measured engines of onnxruntime on every target of `names`."""
    rows = [
        row.model_copy(update={"id": f"{row.name.key}/{name}", "target": name})
        for name in names
        for row in report.rows
        if row.target == "onnxruntime"
    ]
    gate = report.gate.model_copy(update={"rows": [GateRow(id=f"student-int8/{name}", verdict="pass") for name in names]})
    return report.model_copy(update={"rows": rows, "gate": gate})


def visible(markdown: str) -> list[str]:
    return markdown[: markdown.index("<details>")].splitlines()


def rendered(report: Report) -> str:
    return text(report, "report.md.j2")


@pytest.mark.parametrize("how", [{}, {"labelled": False}, {"measured": False}, {"wrong": {"student-int8": range(200)}}])
def test_at_most_15_lines_are_visible_with_three_targets(make_run: MakeRun, how: dict[str, Any]) -> None:
    out = make_run(**how)
    render(out)
    lines = visible((out / "report.md").read_text())
    assert len(lines) <= 15
    for target in ("onnxruntime", "tensorrt", "openvino"):
        assert sum(f"| student-int8/{target} |" in line for line in lines) == 1


@pytest.mark.parametrize("count", [1, 3, SHOWN, SHOWN + 1, 9])
def test_at_most_15_lines_are_visible_with_any_number_of_targets(make_run: MakeRun, count: int) -> None:
    names = [f"target{i}" for i in range(count)]
    markdown = rendered(on_targets(collect(make_run()), names))
    lines = visible(markdown)
    assert len(lines) <= 15
    assert sum("| student-int8/target" in line for line in lines) == min(count, SHOWN)
    assert (f"{count - SHOWN} more targets" in markdown) == (count > SHOWN)
    for name in names:
        assert f"| student-int8/{name} | pass" in markdown


def test_the_visible_part_has_what_a_reviewer_needs(make_run: MakeRun) -> None:
    out = make_run(wrong={"student-int8": range(16, 24)})
    report = render(out)
    lines = visible((out / "report.md").read_text())
    assert lines[0] == "# resnet101 on fashion-mnist: pass"
    drop = next(row.drop for row in report.rows if row.id == "student-int8/onnxruntime")
    assert drop is not None
    low = numbers.signed(tango_lower(drop.lost, drop.gained, drop.n))
    (row,) = (line for line in lines if "student-int8/onnxruntime" in line)
    for expected in (
        f"{numbers.signed(drop.points)} [{low}, {numbers.signed(drop.upper_95)}] | 1,000 |",
        "8.00\N{MULTIPLICATION SIGN}: 4.00 → 0.50 (4.40 → 0.55)",
        "16.2\N{MULTIPLICATION SIGN}: 170.00 → 10.50 MB",
    ):
        assert expected in row
    whole = "\n".join(lines)
    for expected in (
        "Example CPU, 4 cores, avx512_vnni, no GPU",
        "batch 1, threads: 2, 200 queries per engine, engines in turns",
        "Command: `make compress MODEL=resnet101`",
        f"`{file_digest(out / 'report.json')}`",
        "chosen on 500 images held out of training, judged on 1,000 test images",
    ):
        assert expected in whole


def test_a_target_that_fails_stays_visible_and_says_why(make_run: MakeRun) -> None:
    report = collect(make_run(wrong={"student-int8": range(0, 1000, 10)}))
    names = [f"target{i}" for i in range(9)]
    found = on_targets(report, names)
    failed = GateRow(id="student-int8/target8", verdict="fail")
    found = found.model_copy(update={"gate": found.gate.model_copy(update={"rows": [*found.gate.rows[:-1], failed]})})
    first = next(line for line in visible(rendered(found)) if line.startswith("| student"))
    assert first.startswith("| student-int8/target8 | fail: class T-shirt/top: recall")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("make compress", "`make compress`"),
        ("a `b` c", "`` a `b` c ``"),
        ("a\n```\n<b>", "```` a ``` <b> ````"),
    ],
)
def test_a_command_cannot_end_its_code(written: str, expected: str) -> None:
    assert numbers.code(written) == expected


def test_every_folded_part_is_closed(make_run: MakeRun) -> None:
    out = make_run(wrong={"student-int8": range(60)}, notes=(["</details><b>note"], []))
    render(out)
    markdown = (out / "report.md").read_text()
    assert markdown.count("<details>") == markdown.count("</details>") == markdown.count("<summary>") >= 6
    assert "&lt;/details>&lt;b>note" in markdown
