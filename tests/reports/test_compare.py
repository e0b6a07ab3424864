"""Reports of several models -> one table: which engines ship and why not, which to choose, which do not differ."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from measure.statistics import tango_interval
from reports.compare import Entrant, compared, exit_code, render_comparison
from reports.comparison import Comparison, Engine, Table
from reports.render import render

MakeRun = Callable[..., Path]
P50 = {"quick": 0.3, "good": 0.5, "alike": 0.6, "poor": 0.1}
# Of 1,000 images. The baselines get the first 20 wrong.
WRONG: dict[str, Sequence[int]] = {
    "quick": range(28), "good": range(18), "alike": [*range(10), *range(500, 509)], "poor": range(100),
}  # fmt: skip


def comparison_of(
    make_run: MakeRun, folder: Path, names: Sequence[str], failed: dict[str, str] | None = None, **how: Any
) -> Comparison:
    entrants, timed, curves = {}, {}, {}
    for i, name in enumerate(names):
        out = make_run(wrong={"student-int8": WRONG[name]}, sizes=(170_000_000, 40_000_000, 9_000_000 - i), **how)
        report = render(out)
        entrants[name] = Entrant(out.rename(folder / name), report)
        for key, p50 in (("baseline-fp32", 4.0), ("student-int8", P50[name])):
            timed[f"{name}/{key}"] = {"n": 100, "p50": p50, "p90": 1.1 * p50, "p99": 2 * p50, "mean": p50}
            curves[f"{name}/{key}"] = [{"batch": b, "images_per_s": b**0.5 / p50} for b in (1, 8)]
    entrants |= {name: Entrant(folder / name, None, reason) for name, reason in (failed or {}).items()}
    measured = (
        {"onnxruntime": {"batch": 1, "threads": 2, "timed": timed, "throughput": curves}} if how.get("measured", True) else {}
    )
    return compared(entrants, measured, folder, created="today", command="make compare", started=0.0)


def table_of(comparison: Comparison, target: str = "onnxruntime") -> Table:
    return next(table for table in comparison.targets if table.target == target)


def int8(comparison: Comparison, name: str, target: str = "onnxruntime") -> Engine:
    return next(engine for engine in table_of(comparison, target).engines if engine.id == f"{name}/student-int8/{target}")


def test_the_engines_are_timed_anew_and_judged_by_their_own_reports(make_run: MakeRun, tmp_path: Path) -> None:
    found = comparison_of(make_run, tmp_path, ["quick", "poor"])
    assert [table.target for table in found.targets] == ["onnxruntime", "tensorrt", "openvino"]
    quick, poor = int8(found, "quick"), int8(found, "poor")
    assert quick.ships and quick.why_not is None and quick.front
    assert not poor.ships and poor.why_not == "loses 8.00 points; the limit is 1" and not poor.front
    assert quick.latency_ms is not None and quick.latency_ms.p50 == 0.3 and quick.speedup == pytest.approx(4.0 / 0.3)
    assert quick.best is not None and quick.best.batch == 8
    assert quick.accuracy is not None and quick.accuracy.correct == 972 and quick.drop is not None and quick.drop.lost == 8
    assert quick.minutes == pytest.approx(2.5 / 60), "prune took 2.5 s; train is not part of pressing"


def test_the_choices_and_the_engines_that_do_not_differ(make_run: MakeRun, tmp_path: Path) -> None:
    found = comparison_of(make_run, tmp_path, ["quick", "good", "alike", "poor"], max_drop=1.5)
    table = table_of(found)
    choices = {choice.what: choice for choice in table.choices}
    assert {what: choice.engine.split("/")[0] for what, choice in choices.items()} == {
        "quickest": "quick", "most accurate": "good", "smallest": "alike",
    }  # fmt: skip
    assert [engine.model for engine in table.engines if engine.front] == ["quick", "good"]
    # good is right where quick is wrong 10 times and never the other way round: that is no chance
    assert tango_interval(10, 0, 1000)[0] > 0
    low, high = tango_interval(9, 8, 1000)  # alike is wrong on 9 that good has right and right on 8 that it has wrong
    note = choices["most accurate"].note
    assert note is not None and "quick" not in note and "poor" not in note
    interval = f"alike int8 (+0.10 points, 95 % interval {low:+.2f} … {high:+.2f})".replace("-", "\N{MINUS SIGN}")
    assert note == f"On these 1,000 images, its accuracy does not differ significantly from that of {interval}."
    assert "p50 0.30 ms, top-1 97.20 %, 9.00 MB" in choices["quickest"].text


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_strict_ships_nothing_inconclusive(make_run: MakeRun, tmp_path: Path, strict: bool, code: int) -> None:
    found = comparison_of(make_run, tmp_path, ["quick"], max_drop=0.9, strict=strict)  # loses 0.8
    engine = int8(found, "quick")
    assert engine.drop is not None and engine.drop.verdict == "inconclusive"
    assert engine.ships != strict and ("STRICT" in (engine.why_not or "")) == strict
    assert exit_code(found) == code
    texts = [choice.text for choice in table_of(found).choices]
    assert (texts == []) if strict else all("inconclusive" in text for text in texts)


@pytest.mark.parametrize(
    ("names", "failed", "how", "code"),
    [
        (["good", "poor"], {}, {}, 0),
        (["poor"], {}, {}, 1),
        (["good"], {"broken": "weights missing; pass others"}, {}, 2),
        (["good"], {}, {"requested": ["openvino"]}, 3),
        (["poor"], {}, {"requested": ["openvino"]}, 1),
        (["good"], {}, {"measured": False}, 0),
        (["good"], {}, {"measured": False, "strict": True}, 1),
    ],
)
def test_exit_codes(
    make_run: MakeRun, tmp_path: Path, names: list[str], failed: dict[str, str], how: dict[str, Any], code: int
) -> None:
    assert exit_code(comparison_of(make_run, tmp_path, names, failed, **how)) == code


def test_a_model_without_a_report_has_a_row_that_says_why(make_run: MakeRun, tmp_path: Path) -> None:
    found = comparison_of(make_run, tmp_path, ["good"], {"broken": "weights missing; pass others"})
    for table in found.targets:
        row = next(engine for engine in table.engines if engine.model == "broken")
        assert not row.ships and row.why_not == "weights missing; pass others" and row.accuracy is None
    assert table_of(found).choices, "the other model can still be chosen"


def test_what_is_not_measured_is_not_chosen_and_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    found = comparison_of(make_run, tmp_path, ["good"])
    tensorrt = table_of(found, "tensorrt")
    assert tensorrt.choices == [] and tensorrt.notes == ["No engine that could ship was measured here: no GPU here."]
    assert int8(found, "good", "tensorrt").ships
    assert int8(found, "good", "tensorrt").shipping == "yes, unmeasured: no GPU here"
    assert not int8(found, "good", "openvino").ships
    assert "pip install openvino" in str(int8(found, "good", "openvino").why_not)


def test_a_baseline_that_is_quicker_and_as_accurate_gets_a_note(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(P50, "quick", 5.0)
    found = table_of(comparison_of(make_run, tmp_path, ["quick", "poor"]))
    (note, again) = found.notes
    assert again.startswith("The FP32 baseline of poor")
    assert note.startswith("The FP32 baseline of quick is no slower than quick int8 and no less accurate: 4.00 ms and 98.00 %")


def test_the_three_files(make_run: MakeRun, tmp_path: Path) -> None:
    found = comparison_of(make_run, tmp_path, ["quick", "good", "poor"], {"<b>odd|": "weights | missing"})
    render_comparison(found, tmp_path)
    assert Comparison.model_validate(json.loads((tmp_path / "compare.json").read_text())) == found
    html, markdown = (tmp_path / "compare.html").read_text(), (tmp_path / "compare.md").read_text()
    assert (
        not re.search(r"<script|<link|<img|src=|href=|url\(|@import", html) and "&lt;b&gt;odd|" in html and "<b>odd" not in html
    )
    assert html.count("<polyline") == 2 and "top-1 over p50 on onnxruntime" in html
    for text in (html, markdown):
        assert "None" not in text and "nan" not in text
        for expected in ("0.30 / 0.33", "97.20", "+0.80 [", "loses 8.00 points", "pip install openvino", "make compare"):
            assert expected in text
    lines = markdown.splitlines()
    start = lines.index("## onnxruntime")
    rows = [line for line in lines[start : lines.index("## tensorrt")] if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3 + 1 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    render_comparison(found, tmp_path)
    assert (tmp_path / "compare.html").read_text() == html
