"""Figures of the images that choose and figures of those that judge never mix, and only the latter decide the gate."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.junit import junit
from reports.render import render
from reports.rows import collect, exit_code, missing_requested
from reports.run_folder import read_record
from reports.schema import Report, Row
from reports.summary import summary_of

MakeRun = Callable[..., Path]
BOTH = ("student-fp32", "student-int8")


def row(report: Report, key: str) -> Row:
    return next(row for row in report.rows if row.id == f"{key}/onnxruntime")


def changed(out: Path, target: str, **changes: Any) -> Path:
    run = json.loads((out / "run.json").read_text())
    (entry,) = [entry for entry in run["targets"] if entry["target"] == target]
    entry.update(changes)
    (out / "run.json").write_text(json.dumps(run))
    return out


def test_a_candidate_has_held_out_figures_only(make_run: MakeRun) -> None:
    report = collect(make_run(held_out={"baseline-fp32": [], "student-fp32": range(4)}, wrong={"baseline-fp32": range(30)}))
    baseline, candidate, judged = (row(report, key) for key in ("baseline-fp32", "student-fp32", "student-int8"))
    assert candidate.chosen_on is not None and (candidate.accuracy, candidate.drop, candidate.standing) == (None,) * 3
    assert candidate.chosen_on.top1 == pytest.approx(99.2) and candidate.chosen_on.n == 500
    assert candidate.chosen_on.drop == pytest.approx(0.8) and candidate.chosen_on.verdict == "inconclusive"
    assert candidate.status == "measured" and candidate.latency_ms is not None
    assert judged.accuracy is not None and judged.drop is not None and judged.drop.n == judged.accuracy.n == 1000
    assert baseline.chosen_on is not None and baseline.chosen_on.top1 == 100 and baseline.chosen_on.drop is None
    assert baseline.accuracy is not None and baseline.accuracy.top1 == 97
    assert report.dataset.chosen_on is not None and report.dataset.judged_on is not None
    assert (report.dataset.chosen_on.n, report.dataset.judged_on.n) == (500, 1000)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_reports_keep_them_apart(make_run: MakeRun, labelled: bool) -> None:
    out = make_run(labelled=labelled, held_out={"baseline-fp32": [], "student-fp32": range(4), "student-int8": range(7)})
    render(out)
    text = (out / "report.md").read_text()
    (head,) = [line for line in text.splitlines() if line.startswith("| engine | precision | target")]
    columns = [cell.strip() for cell in head.split("|")]
    cells = {}
    for line in text.splitlines():
        if re.match(r"\| (baseline|student)[^ /]* \|", line):
            found = [cell.strip() for cell in line.split("|")]
            assert len(found) == len(columns)
            cells[found[1], found[3]] = dict(zip(columns, found, strict=True))
    candidate, judged = cells["student-fp32", "onnxruntime"], cells["student-int8", "onnxruntime"]
    chosen = next(name for name in columns if name.startswith("chosen on:") and "drop" not in name and "different" not in name)
    held_to = next(name for name in columns if name.startswith("judged on:"))
    assert candidate[chosen] == "99.20" and judged[chosen] == "98.60"
    assert candidate[held_to] == "not judged" and candidate["verdict"] == "for comparison" and candidate["ships"] == "no"
    assert judged[held_to] == ("98.00" if labelled else "100.00") and judged["verdict"] == "pass" and judged["ships"] == "yes"
    assert cells["student-int8", "tensorrt"][held_to] == "–", "what was only built is no candidate that was measured"
    noted = "chosen on 500 images held out of training, judged on 1,000 test images"
    html = " ".join((out / "report.html").read_text().split())
    assert noted in text and noted in html and "not judged" in html and ">for comparison<" in html


def test_report_json_and_the_record_keep_what_was_judged(make_run: MakeRun) -> None:
    out = make_run(judged=BOTH)
    render(out)
    record = read_record(out)
    record.write(out)
    assert read_record(out) == record, "what is written is what was read"
    rows = {entry["id"]: entry for entry in json.loads((out / "report.json").read_text())["rows"]}
    assert rows["student-int8/onnxruntime"]["chosen_on"] == {
        "top1": 96.0, "agreement": None, "n": 500, "drop": 0.0, "upper_95": pytest.approx(0.54, abs=0.01), "verdict": "pass",
        "interval": pytest.approx([-0.76, 0.76], abs=0.01),
    }  # fmt: skip


def test_a_candidate_that_was_not_chosen_is_marked(make_run: MakeRun) -> None:
    out = make_run(judged=("student-fp32",), candidate="student-fp32")
    render(out)
    (line,) = [line for line in (out / "report.md").read_text().splitlines() if line.startswith("| student-int8 | int8 | onnx")]
    assert "| not judged | – | – | – | candidate |" in line and ">candidate<" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("mild", "chosen", "ships", "verdict", "noted"),
    [
        (0, 0, "student-int8", "pass", ""),
        (0, 60, "student-fp32", "pass", "student-fp32/onnxruntime ships instead of student-int8/onnxruntime"),
        (0, 5, "student-fp32", "pass", "student-fp32/onnxruntime ships instead of student-int8/onnxruntime"),
        (5, 0, "student-int8", "inconclusive", "counts as inconclusive: student-fp32/onnxruntime, which is milder"),
        (60, 0, None, "fail", "counts as fail: student-fp32/onnxruntime, which is milder"),
        (60, 60, None, "fail", "student-int8/onnxruntime fails the gate and does not ship"),
    ],
)
def test_the_sequence_decides_what_ships(
    make_run: MakeRun, mild: int, chosen: int, ships: str | None, verdict: str, noted: str
) -> None:
    wrong = {"baseline-fp32": [], "student-fp32": range(mild), "student-int8": range(100, 100 + chosen)}
    report = collect(make_run(judged=BOTH, candidate=ships or BOTH[-1], wrong=wrong))
    assert [entry.id for entry in report.rows if entry.ships and entry.target == "onnxruntime"] == (
        [f"{ships}/onnxruntime"] if ships else []
    )
    assert report.gate.rows[0].id == f"{ships or BOTH[-1]}/onnxruntime"
    assert report.gate.verdict == report.gate.rows[0].verdict == verdict
    assert any(noted in note for note in report.notes)
    own = row(report, "student-int8").drop
    assert own is not None and own.verdict == {0: "pass", 5: "inconclusive", 60: "fail"}[chosen], (
        "its own figures stay as they are"
    )


def test_held_out_figures_do_not_decide_the_gate(make_run: MakeRun) -> None:
    held_out = {"baseline-fp32": [], "student-fp32": range(200), "student-int8": range(200)}
    report = collect(make_run(held_out=held_out))
    assert report.gate.verdict == "pass" and row(report, "student-int8").ships


@pytest.mark.parametrize(("strict", "ships"), [(False, True), (True, False)])
def test_strict_lets_nothing_ship_that_is_inconclusive_or_unmeasured(make_run: MakeRun, strict: bool, ships: bool) -> None:
    report = collect(make_run(strict=strict, wrong={"student-int8": range(25)}))
    assert [entry.ships for entry in report.rows if entry.name.form == "int8"] == [ships, ships, False]
    assert report.gate.verdict == "inconclusive"
    assert any("STRICT lets nothing ship that is unmeasured" in note for note in report.notes) == strict


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_prepared_is_a_success_and_not_judged(make_run: MakeRun, strict: bool) -> None:
    out = make_run(strict=strict, requested=["onnxruntime", "openvino"])
    changed(out, "openvino", bundle="stages/bundle-onnxruntime")
    changed(out, "tensorrt", unavailable="no GPU here", engines={}, candidate=None)
    report = render(out)
    prepared = [entry for entry in report.rows if entry.status == "prepared"]
    assert [(entry.target, entry.ships, entry.standing) for entry in prepared] == [
        ("tensorrt", True, None),
        ("openvino", True, None),
    ]
    assert report.gate.verdict == "pass" and [entry.id for entry in report.gate.rows] == ["student-int8/onnxruntime"]
    assert missing_requested(report) == []
    (note,) = [note for note in report.notes if note.startswith("student-int8/openvino")]
    assert note.startswith("student-int8/openvino is prepared, not built and not judged (openvino is not installed")
    assert "| prepared: openvino is not installed" in (out / "report.md").read_text()
    assert exit_code(report) == 0
    run = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**run, "targets": run["targets"][1:]}))
    alone = collect(out)
    assert alone.gate.rows == [] and missing_requested(alone) == ["onnxruntime"] and exit_code(alone) == 3
    requested = alone.model_copy(update={"requested": ["tensorrt"]})
    assert exit_code(requested) == 0, "preparing it was all that could be done"


@pytest.mark.parametrize(
    ("held_out", "wrong", "noted"),
    [(0, 66, True), (40, 66, False), (5, 66, True), (0, 15, False)],  # of 500 and of 1,000
)
def test_a_baseline_that_knows_the_images_that_choose_is_reported(
    make_run: MakeRun, held_out: int, wrong: int, noted: bool
) -> None:
    out = make_run(held_out={"baseline-fp32": range(held_out)}, wrong={"baseline-fp32": range(wrong)})
    notes = [note for note in collect(out).notes if "trained on some of the images that choose (contamination)" in note]
    assert len(notes) == noted
    if noted:
        assert f"gets {100 - held_out / 5:.2f} % of the 500 images right that choose, and 93.40 % of the 1,000" in notes[0]


@pytest.mark.parametrize(("points", "noted"), [(4, False), (6, True)])
@pytest.mark.parametrize("where", ["choose", "judge"])
def test_an_engine_that_is_far_better_than_its_baseline_is_flagged(
    make_run: MakeRun, points: int, noted: bool, where: str
) -> None:
    missed = {"baseline-fp32": range(points * (5 if where == "choose" else 10)), "student-int8": []}
    out = make_run(**{"held_out" if where == "choose" else "wrong": missed})
    notes = [note for note in collect(out).notes if "points better than its FP32 baseline" in note]
    assert [f"{points}.0 points better" in note and where in note for note in notes if "int8" in note] == [True] * noted
    cannot_pass = noted and where == "judge"
    assert all(note.endswith("So it cannot pass.") == cannot_pass for note in notes)
    report = collect(out)
    assert row(report, "student-int8").standing == ("inconclusive" if cannot_pass else "pass")
    (line,) = [line for line in summary_of(report).lines if line.row.id == "student-int8/onnxruntime"]
    assert ("compression does not do that" in line.judged) == cannot_pass
    assert ("compression does not do that" in junit(report)) == cannot_pass


def test_rungs_say_how_they_did_on_the_images_that_choose(make_run: MakeRun) -> None:
    rung = {"row": "student-int8", "what": "1 of 20 layers in floating point", "verdict": "inconclusive", "seconds": 3.0}
    out = changed(make_run(), "onnxruntime", rungs=[{**rung, "too_few": True}])
    (note,) = [note for note in collect(out).notes if "in floating point" in note]
    assert note == (
        "student-int8/onnxruntime: 1 of 20 layers in floating point; is inconclusive on the images that choose (built and "
        "evaluated in 3 s). These images are too few for any engine to pass, so no further one was built."
    )


def test_a_run_of_an_earlier_version_is_still_read(make_run: MakeRun) -> None:
    out = make_run()
    run = json.loads((out / "run.json").read_text())
    dataset = json.loads((out / "stages/index/dataset.json").read_text())
    for entry in run["targets"]:
        entry.pop("held_out", None), entry.pop("judged", None)
    run["targets"][0]["rungs"] = [{"row": "student-int8", "what": "before", "passes": True, "seconds": 1.0}]
    (out / "run.json").write_text(json.dumps(run))
    (out / "stages/index/dataset.json").write_text(
        json.dumps({key: value for key, value in dataset.items() if key not in ("chosen_on", "judged_on")})
    )
    report = render(out)
    assert report.gate.verdict == "pass" and row(report, "student-int8").ships
    assert report.dataset.divided is None and row(report, "student-int8").chosen_on is None
