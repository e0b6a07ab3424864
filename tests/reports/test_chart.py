"""The throughput curve in report.html and its table in report.md."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.chart import charts, grid, rate, speeds
from reports.headline import headline
from reports.render import html, text
from reports.rows import collect
from reports.run_folder import read_record
from reports.schema import BatchAtLimit, GateRow, Report, Row, Throughput

MakeRun = Callable[..., Path]


def curve(*points: tuple[int, float]) -> list[Throughput]:
    return [
        Throughput(batch=batch, images_per_s=rate, ms=1000 * batch / rate, p90_ms=1100 * batch / rate, n=7)
        for batch, rate in points
    ]


def with_curves(report: Report) -> Report:
    """The measured rows with curves of their own; the baseline's ends early, the INT8 engine has a batch at the limit."""
    curves = {
        "baseline-fp32/onnxruntime": curve((1, 3.25), (2, 40), (4, 80)),
        "student-fp32/onnxruntime": curve((1, 100), (2, 150), (4, 200), (8, 250), (16, 240)),
        "student-int8/onnxruntime": curve((1, 200), (2, 400), (4, 800), (8, 950), (16, 900)),
    }
    limit = BatchAtLimit(limit_ms=7.5, batch=4, p90_ms=5.5, images_per_s=800)
    rows = [
        row.model_copy(
            update={
                "throughput": curves.get(row.id, []),
                "batch_at_limit": limit if row.precision == "int8" and row.throughput else None,
            }
        )
        for row in report.rows
    ]
    return report.model_copy(update={"rows": rows})


@pytest.fixture
def report(make_run: MakeRun) -> Report:
    return with_curves(collect(make_run()))


def test_one_chart_per_target_with_a_line_per_engine(report: Report) -> None:
    (drawn,) = charts(report.rows)
    assert drawn.target == "onnxruntime" and drawn.limit_ms == 7.5
    assert [line.kind for line in drawn.lines] == ["baseline-fp32", "student-fp32", "student-int8"]
    assert [(tick.text, tick.at) for tick in drawn.columns] == [("1", 0), ("2", 25), ("4", 50), ("8", 75), ("16", 100)]
    assert [(tick.text, tick.at) for tick in drawn.grid] == [("0", 100), ("250", 75), ("500", 50), ("750", 25), ("1,000", 0)]
    int8 = drawn.lines[2]
    assert int8.points == "0.00,80.00 25.00,60.00 50.00,20.00 75.00,5.00 100.00,10.00"
    assert [dot.limit for dot in int8.dots] == [False, False, True, False, False]
    assert (int8.best.batch, int8.best.images_per_s) == (8, 950)
    assert not any(dot.limit for line in drawn.lines[:2] for dot in line.dots)


def test_one_batch_is_no_curve(report: Report) -> None:
    rows = [row.model_copy(update={"throughput": row.throughput[:1]}) for row in report.rows]
    assert charts(rows) == []
    assert speeds(rows).batches == [1]


@pytest.mark.parametrize("largest", [0.3, 1.0, 7.0, 99.0, 100.0, 101.0, 3425.1, 250_000.0])
def test_the_grid_is_round_and_just_high_enough(largest: float) -> None:
    values = grid(largest)
    step = values[1]
    assert values[0] == 0 and largest <= values[-1] * (1 + 1e-9) and values[-1] - step < largest
    assert 3 <= len(values) <= 6
    assert re.fullmatch(r"(1|2|2\.5|5)0*", f"{step * 10**6:.0f}".replace("25", "2.5", 1))


def test_slow_engines_keep_a_digit() -> None:
    assert (rate(3.25), rate(12.5), rate(3425.1)) == ("3.2", "12", "3,425")


def test_the_html_has_the_curve_as_svg(report: Report, tmp_path: Path) -> None:
    shown = html(report, read_record(tmp_path / "run"))
    card = shown[shown.index("onnxruntime: images per second by batch size") :]
    svg = ElementTree.fromstring(card[card.index("<svg") : card.index('<ul class="legend">')])
    assert len(list(svg.iter("polyline"))) == 3
    circles = list(svg.iter("circle"))
    assert len(circles) == 3 + 5 + 5
    (limit,) = [circle for circle in circles if circle.get("class") == "limit"]
    assert (limit.get("cx"), limit.get("cy")) == ("50.00%", "20.00%")
    title = limit.find("title")
    assert (
        title is not None and title.text == "student-int8/onnxruntime, batch 4: 800 images/s, 5.00 ms a call (p90 5.50 ms, n=7)"
    )
    assert "largest batch within 7.5 ms" in card and "maximum at batch 8, <b>950</b>" in card


def test_markdown_has_every_point_in_a_table(report: Report) -> None:
    lines = text(report, "report.md.j2").splitlines()
    start = lines.index("<details><summary>Throughput</summary>")
    table = [line for line in lines[start : lines.index("<details><summary>Gate</summary>")] if line.startswith("|")]
    assert table[0] == "| engine | batch 1 | batch 2 | batch 4 | batch 8 | batch 16 | within 7.5 ms |"
    assert len({line.count("|") for line in table}) == 1 and len(table) == 5
    assert table[2].startswith("| baseline-fp32/onnxruntime | 3.2 (308 ms) | 40 (50.00 ms) | 80 (50.00 ms) | – | – | – |")
    assert table[4].endswith("| 900 (17.78 ms) | batch 4: 800 |")


@pytest.mark.parametrize("template", ["report.md.j2", "report.html.j2"])
def test_a_run_without_times_of_calls_is_still_rendered(make_run: MakeRun, template: str) -> None:
    out = make_run()
    report = collect(out)
    shown = html(report, read_record(out)) if template == "report.html.j2" else text(report, template)
    assert "None" not in shown and "ithin" not in shown[shown.index("Throughput") : shown.index("Gate")]


def test_the_headline_is_the_engine_that_ships(report: Report) -> None:
    """Where 16-bit floats are quicker than INT8, they are the candidate."""
    rows = [becomes_candidate(row) for row in report.rows]
    judged = [GateRow(id="student-bf16/onnxruntime", verdict="pass"), *report.gate.rows[1:]]
    found = headline(report.model_copy(update={"rows": rows, "gate": report.gate.model_copy(update={"rows": judged})}))
    assert found is not None and found.row.id == "student-bf16/onnxruntime"
    assert found.baseline is not None and found.baseline.id == "baseline-fp32/onnxruntime"


def becomes_candidate(row: Row) -> Row:
    if row.id == "student-fp32/onnxruntime":
        return row.model_copy(update={"id": "student-bf16/onnxruntime", "precision": "bf16", "ships": True})
    return row.model_copy(update={"ships": False})
