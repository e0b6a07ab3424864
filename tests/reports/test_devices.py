"""Rows of engines for a device that is not here: built, not measured, and what the report says about them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reports.card import card
from reports.render import render
from reports.rows import collect, exit_code
from tests.reports.conftest import MakeRun

REASON = "it is made for arm64, and this machine is x86-vnni"
ID = "student-int8/onnxruntime@arm64"


def for_arm(make_run: MakeRun, held_out: Sequence[int] = (), **given: Any) -> Path:
    """A run with onnxruntime here, and for arm64 with the student's mistakes `held_out` on the images that choose."""
    out = make_run(held_out={"baseline-fp32": (), "student-int8": held_out}, **given)
    record = json.loads((out / "run.json").read_text())
    here = record["targets"][0]
    there = {**here, "target": "onnxruntime@arm64", "cannot_run": REASON, "candidate": "student-int8"}
    if len(held_out) > 250:
        del there["bundle"]  # the pipeline packs nothing that fails
    for key in ("predictions", "judged", "latency"):
        del there[key]
    record["targets"] = [here, there]
    (out / "run.json").write_text(json.dumps(record))
    return out


def test_a_row_for_a_device_is_built_and_has_no_figures_of_the_device(make_run: MakeRun) -> None:
    report = collect(for_arm(make_run))
    row = next(row for row in report.rows if row.id == ID)
    assert (row.target, row.device, row.on) == ("onnxruntime", "arm64", "onnxruntime@arm64")
    assert (row.status, row.reason, row.ships) == ("built", REASON, True)
    assert row.accuracy is row.drop is row.standing is row.latency_ms is row.speedup is None
    assert row.chosen_on and row.chosen_on.top1 == 100
    assert {(entry.id, entry.verdict) for entry in report.gate.rows} >= {(ID, "unmeasured")}
    plain = next(row for row in report.rows if row.id == "student-int8/onnxruntime")
    assert plain.device is None and plain.status == "measured" and plain.drop
    (note,) = [note for note in report.notes if note.startswith(ID)]
    assert "was built but not measured here" in note and "run `make measure OUT=… DEVICE=…`, or verify.py" in note
    assert "computed by ONNX Runtime on this machine and not by the device" in note


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_what_is_not_measured_ships_unless_strict(strict: bool, code: int, make_run: MakeRun) -> None:
    report = collect(for_arm(make_run, strict=strict, wrong={"student-int8": ()}, requested=["onnxruntime@arm64"]))
    assert exit_code(report) == code
    assert next(row for row in report.rows if row.id == ID).ships != strict


def test_what_fails_on_the_images_that_choose_fails(make_run: MakeRun) -> None:
    report = collect(for_arm(make_run, held_out=range(300), wrong={"student-int8": ()}))
    row = next(row for row in report.rows if row.id == ID)
    assert (row.standing, row.ships, row.drop) == ("fail", False, None)
    assert exit_code(report) == 1
    assert any(note.startswith(ID) and note.endswith("It fails there and does not ship.") for note in report.notes)


def test_the_device_stands_in_all_reports(make_run: MakeRun) -> None:
    out = for_arm(make_run)
    report = render(out)
    for name in ("report.md", "report.html", "junit.xml"):
        assert "onnxruntime@arm64" in (out / name).read_text(), name
    assert "onnxruntime@arm64: made for arm64" in card(report) and "cd onnxruntime@arm64" in card(report)
    assert "pip install -r requirements.txt" in card(report)


def test_an_engine_measured_on_a_machine_of_its_kind_says_so(make_run: MakeRun) -> None:
    out = make_run()
    record = json.loads((out / "run.json").read_text())
    record["targets"][0]["target"] = "onnxruntime@x86-vnni"
    (out / "run.json").write_text(json.dumps(record))
    about = "was measured on this machine, which is x86-vnni; the times of another one differ."
    assert f"student-int8/onnxruntime@x86-vnni {about}" in collect(out).notes
