"""What the reports say about speed: an interval, "about as fast" where turns do not agree, and nothing where the machine was
busy."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from measure.turns import ratios
from pipeline.tell import tell
from reports.card import card
from reports.render import render
from reports.rows import collect
from reports.schema import Report, Row

MakeRun = Callable[..., Path]
WARNING = "The machine was busy while latencies were measured ({} of 30 turns): they are not to be quoted."
STEADY = {"baseline-fp32": [4.0] * 10, "student-fp32": [1.0] * 10, "student-int8": [0.5] * 10}


def timed_in_turns(out: Path, turns: dict[str, list[float]], disturbed: Sequence[float | None] = (0.0, 0.0, 0.0)) -> Path:
    """The run in `out`, as if its engines had had these turns; `disturbed` is the share of each engine's."""
    path = out / "stages/latency/manifest.json"
    manifest = json.loads(path.read_text())
    for (key, taken), share in zip(turns.items(), disturbed, strict=True):
        manifest["metrics"]["timed"][key] |= {"turns": taken, "spread": 0.02, "ended_by": "queries", "disturbed": share}
    count = sum(round(10 * (share or 0)) for share in disturbed)
    manifest["metrics"]["ratios"] = ratios({key: [[each] for each in taken] for key, taken in turns.items()})
    manifest["metrics"]["machine"] = {
        "watched": True, "turns": 30, "disturbed": count, "repeated": 12, "reasons": {"load of other processes": count},
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    return out


def row(report: Report, name: str = "student-int8/onnxruntime") -> Row:
    return next(row for row in report.rows if row.id == name)


def test_a_speedup_has_its_interval_and_its_share_of_turns(make_run: MakeRun) -> None:
    turns = STEADY | {"student-int8": [0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 4.1]}
    report = collect(timed_in_turns(make_run(), turns))
    found = row(report).speedup_turns
    assert found is not None and row(report).speedup == 8.0
    assert (found.share, found.n) == (0.9, 10) and found.low <= 8.0 <= found.high
    assert row(report, "baseline-fp32/onnxruntime").speedup_turns is None
    latency = row(report).latency_ms
    assert latency is not None and (latency.turns, latency.spread) == (turns["student-int8"], 0.02)
    assert (latency.ended_by, latency.disturbed) == ("queries", 0.0)


def test_reports_show_the_interval(make_run: MakeRun) -> None:
    out = timed_in_turns(make_run(), STEADY)
    render(out)
    assert "8.00× [8.00, 8.00]: 4.00 → 0.50" in (out / "report.md").read_text()
    assert "95 % interval 8.00 to 8.00×" in (out / "report.html").read_text()


@pytest.mark.parametrize(("wins", "words"), [(9, "8.00×"), (8, "about as fast"), (1, "8.00×"), (2, "about as fast")])
def test_engines_that_do_not_differ_are_about_as_fast(make_run: MakeRun, wins: int, words: str) -> None:
    out = timed_in_turns(make_run(), STEADY | {"student-int8": [0.5] * wins + [5.0] * (10 - wins)})
    render(out)
    opening = (out / "report.md").read_text().split("<details>")[0]
    assert f"| {words} [" in opening and ("8.00×" in opening) == (words == "8.00×")
    assert ("<b>about</b><span>as fast</span>" in (out / "report.html").read_text()) == (words != "8.00×")


@pytest.mark.parametrize(
    ("wins", "expected"),
    [
        (10, None),
        (9, None),
        (6, "INT8 is about as fast as FP32 of the same network on onnxruntime: 0.50 ms against 1.00 ms (p50, batch 1, n=200, "
            "quicker in 6 of 10 turns); that engine ships."),
        (1, "INT8 is not faster than FP32 of the same network on onnxruntime: 0.50 ms against 1.00 ms (p50, batch 1, n=200, "
            "quicker in 1 of 10 turns); that engine ships."),
    ],
)  # fmt: skip
def test_int8_is_faster_only_in_nine_of_ten_turns(make_run: MakeRun, wins: int, expected: str | None) -> None:
    out = make_run(judged=("student-fp32",), candidate="student-fp32")
    notes = collect(timed_in_turns(out, STEADY | {"student-int8": [0.5] * wins + [2.0] * (10 - wins)})).notes
    assert [note for note in notes if note.startswith("INT8 is")] == ([expected] if expected else [])


@pytest.mark.parametrize(("disturbed", "busy"), [((0.3, 0.4, 0.3), False), ((0.4, 0.4, 0.3), True), ((None,) * 3, False)])
def test_a_busy_machine_is_in_the_headline_and_speed_is_withheld(
    make_run: MakeRun, disturbed: Sequence[float | None], busy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_int8 = STEADY | {"student-int8": [1.5] * 10}
    out = timed_in_turns(make_run(), slow_int8, disturbed)
    report = render(out)
    markdown, html = (out / "report.md").read_text(), (out / "report.html").read_text()
    opening = markdown.split("<details>")[0]
    warning = WARNING.format(11)
    tell(report, out)
    shown = " ".join(capsys.readouterr().out.split())
    for text in (opening, html.split("<h2>")[0], shown, card(report)):
        assert (warning in text) == busy
    assert ("not to be quoted: 4.00 → 0.50" in opening) == busy and ("8.00×" in markdown) != busy
    assert ("<b>not to be quoted</b>" in html) == busy
    assert any("INT8 is not faster" in note for note in report.notes) != busy
    assert len(opening.splitlines()) <= 15


def test_what_disturbed_some_turns_is_a_note(make_run: MakeRun) -> None:
    expected = (
        "3 of 30 turns on onnxruntime were disturbed: load of other processes in 3. 12 turns were repeated, and the calmest "
        "counted."
    )
    assert expected in collect(timed_in_turns(make_run(), STEADY, (0.1, 0.1, 0.1))).notes


def test_a_quiet_machine_says_nothing(make_run: MakeRun) -> None:
    assert not any("disturbed" in note or "busy" in note for note in collect(timed_in_turns(make_run(), STEADY)).notes)


def test_the_conditions_say_how_much_turns_differ_and_whether_the_machine_was_watched(make_run: MakeRun) -> None:
    out = timed_in_turns(make_run(), STEADY, (None, None, None))
    render(out)
    expected = "200 queries per engine, engines in turns that differ by up to 2 %, the machine was not watched"
    assert expected in (out / "report.md").read_text()


def test_runs_of_earlier_versions_have_no_turns_and_can_be_read(make_run: MakeRun) -> None:
    out = make_run()
    report = render(out)
    latency = row(report).latency_ms
    assert latency is not None and (latency.turns, latency.spread, latency.disturbed) == ([], None, None)
    assert row(report).speedup == 8.0 and row(report).speedup_turns is None and row(report).memory_bytes is None
    assert "8.00×: 4.00 → 0.50" in (out / "report.md").read_text()
    written = json.loads((out / "report.json").read_text())
    for each in written["rows"]:
        for key in ("speedup_turns", "memory_bytes", "first_inference_ms"):
            del each[key]
        for key in ("turns", "spread", "ended_by", "disturbed"):
            (each["latency_ms"] or {}).pop(key, None)
    assert Report.model_validate(written).rows == report.rows


def test_memory_and_time_to_the_first_inference_are_in_the_reports(make_run: MakeRun) -> None:
    out = make_run()
    folder = out / "stages/alone"
    folder.mkdir()
    measured: dict[str, Any] = {"memory_bytes": 21_000_000, "first_inference_ms": 93.2}
    (folder / "manifest.json").write_text(json.dumps({"metrics": measured}))
    run = json.loads((out / "run.json").read_text())
    run["targets"][0]["alone"] = {"student-int8": "stages/alone"}
    (out / "run.json").write_text(json.dumps(run))
    report = render(out)
    assert (row(report).memory_bytes, row(report).first_inference_ms) == (21_000_000, 93.2)
    assert "| 93 | 21.00 MB |" in (out / "report.md").read_text()
    html = (out / "report.html").read_text()
    assert "first 93.20 ms" in html and "21.00 MB of memory" in html
