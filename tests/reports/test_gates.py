"""The gates of classes in the three files of the report, and reports of earlier versions, which have none."""

import json
from pathlib import Path

import pytest

from reports.numbers import signed
from reports.render import render
from reports.rows import collect
from reports.schema import GateResult, Report
from tests.reports.conftest import CLASSES, MakeRun

ROW = "student-int8/onnxruntime"
# Image i is of class i % 10. Class 3 loses 2 of its 100 images, class 9 loses 40.
WRONG = {"baseline-fp32": [], "student-int8": [3, 13, *range(9, 400, 10)]}


def with_gate(out: Path, **gate: object) -> Path:
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "gate": {"max_drop": None, "max_class_drop": None, **gate}}))
    return out


def test_every_row_with_a_drop_has_its_gates(make_run: MakeRun) -> None:
    recall = {CLASSES[3]: 5.0, CLASSES[4]: 3.0, CLASSES[9]: 50.0}
    report = render(with_gate(make_run(wrong=WRONG), recall=recall, worst_class=20, balanced=10))
    assert (report.gate.max_drop, report.gate.recall, report.gate.worst_class, report.gate.balanced) == (None, recall, 20, 10)
    drop = next(row.drop for row in report.rows if row.id == ROW)
    assert drop is not None and drop.points == pytest.approx(4.2) and drop.verdict == "fail" == report.gate.verdict
    found = {each.name: (each.label, each.verdict, round(each.points, 6), each.n) for each in drop.gates}
    assert found == {
        f"recall:{CLASSES[3]}": (CLASSES[3], "inconclusive", 2, 100),
        f"recall:{CLASSES[4]}": (CLASSES[4], "pass", 0, 100),
        f"recall:{CLASSES[9]}": (CLASSES[9], "pass", 40, 100),
        "worst_class": (CLASSES[9], "fail", 40, 100),
        "balanced": (None, "pass", 4.2, 1000),
    }
    assert any(
        note.startswith(
            f"{ROW} fails the gate and does not ship: worst_class=20: +40.00 points of recall of class {CLASSES[9]}"
        )
        for note in report.notes
    )


def test_the_gates_stand_in_a_table_and_top1_is_said_to_be_none(make_run: MakeRun) -> None:
    out = with_gate(make_run(wrong=WRONG), recall={CLASSES[3]: 5.0}, balanced=10)
    report = render(out)
    shown = " ".join(CLASSES[3].split())
    markdown, html = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert "(not a limit of this gate)" in markdown and "(not a limit of this gate)" in html
    (row,) = [row for row in report.rows if row.id == ROW]
    assert row.drop is not None
    unsure, mean = row.drop.gates
    assert f"| {ROW} | recall:{shown} | {shown} | +2.00 [" in markdown
    assert f"… {unsure.upper_95:+.2f}] | 5 | 100 | inconclusive | {unsure.needed} |" in markdown
    assert f"… {mean.upper_95:+.2f}] | 10 | 1000 | pass | – |" in markdown and f"… {mean.upper_95:+.2f}]" in html
    assert "MOVER" in markdown and "MOVER" in html and "worst_class" not in markdown
    assert f"About {unsure.needed:,} test images of class {shown} would decide it" in markdown
    assert all(entry.upper_95 is not None and entry.upper_95 > entry.points for entry in report.per_class)
    entry = next(entry for entry in report.per_class if entry.label == CLASSES[3])
    assert entry.upper_95 is not None and f"+2.00 [{signed(entry.lower_95)} … {entry.upper_95:+.2f}] | 2 / 0 |" in markdown


def test_without_labels_a_gate_of_a_class_is_of_what_the_baseline_predicts(make_run: MakeRun) -> None:
    report = collect(with_gate(make_run(wrong=WRONG, labelled=False), recall={CLASSES[9]: 5.0}))
    drop = next(row.drop for row in report.rows if row.id == ROW)
    assert drop is not None and (drop.gates[0].points, drop.gates[0].n, drop.verdict) == (40, 100, "fail")
    assert any(f"points of agreement of class {CLASSES[9]} lost (not of accuracy)" in note for note in report.notes)


def test_a_worst_class_that_may_be_chance_is_inconclusive(make_run: MakeRun) -> None:
    report = collect(with_gate(make_run(wrong={"baseline-fp32": [], "student-int8": [1, 11, 21]}), worst_class=2.9))
    (note,) = [
        note for note in report.notes if note.startswith(f"{ROW} is inconclusive: worst_class=2.9: +3.00 points of recall")
    ]
    assert note.endswith(f"That may be chance; more test images of class {CLASSES[1]} would decide it.")


def test_too_few_images_of_a_class_are_a_note(make_run: MakeRun) -> None:
    report = collect(with_gate(make_run(), recall={CLASSES[3]: 0.5}))
    assert any(f"Class {CLASSES[3]!r} has 100 test images, too few for recall:{CLASSES[3]}=0.5" in n for n in report.notes)


def test_a_report_of_an_earlier_version_is_still_read(make_run: MakeRun) -> None:
    written = json.loads(render(make_run()).model_dump_json())
    for row in written["rows"]:
        if row["drop"]:
            del row["drop"]["gates"]
    for entry in written["per_class"]:
        del entry["upper_95"]
    for key in ("recall", "worst_class", "balanced"):
        del written["gate"][key]
    found = Report.model_validate(written)
    assert found.gate.text == "top1=1" and not any(row.drop.gates for row in found.rows if row.drop)


def test_the_file_has_the_names_and_the_limits_of_the_gate() -> None:
    gate = GateResult(max_drop=1.0, recall={"crack": 0.5}, strict=False, verdict="pass", rows=[])
    written = gate.model_dump(mode="json")
    assert written["metrics"] == ["top1", "recall:crack"] and written["limits"] == {"top1": 1.0, "recall:crack": 0.5}
    assert GateResult(**written) == gate
