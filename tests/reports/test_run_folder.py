"""run.json keeps what a changed gate needs, and a run that is no longer complete counts as none."""

import json
import shutil
from dataclasses import replace

import pytest

from core.engine_name import EngineName
from measure.gate import Gate
from reports.rows import collect
from reports.run_folder import Rung, read_record, targets_before
from tests.reports.conftest import MakeRun

MIXED = EngineName("student", "mixed1", "", "onnxruntime")


def test_the_rungs_and_the_gate_they_were_climbed_for_are_read_as_they_were_written(make_run: MakeRun) -> None:
    out = make_run()
    record = read_record(out)
    first, *others = record.targets
    rung = Rung(MIXED, "1 of 4 layers in floating point", "fail", False, 3.0, first.engines[first.baseline])
    climbed = replace(first, rungs=(rung,), climbed_for=Gate(max_drop=0.5, strict=True))
    replace(record, targets=[climbed, *others]).write(out)
    again = read_record(out).targets[0]
    assert again.climbed_for == climbed.climbed_for
    assert again.rungs[0].placed and rung.placed
    assert replace(again.rungs[0], placed=None) == replace(rung, placed=None)
    assert again.rungs[0].placed.path == rung.placed.path


def test_what_was_measured_alone_is_read_as_it_was_written(make_run: MakeRun) -> None:
    out = make_run()
    record = read_record(out)
    assert not record.targets[0].alone and record.targets[0].measured_alone(MIXED) == {}
    measured = record.targets[0].latency
    assert measured
    replace(record, targets=[replace(record.targets[0], alone={MIXED: measured}), *record.targets[1:]]).write(out)
    found = read_record(out).targets[0].alone
    assert {name: stage.path for name, stage in found.items()} == {MIXED: measured.path}


@pytest.mark.parametrize(
    ("climbed_for", "max_drop", "noted"),
    [({"max_drop": 5.0}, 1.0, True), ({"max_drop": 1.0}, 1.0, False), (None, 1.0, False), ({"max_drop": 1.0}, 50.0, False)],
)
def test_the_report_says_that_the_ladder_was_not_climbed_for_the_new_gate(
    climbed_for: dict[str, float] | None, max_drop: float, noted: bool, make_run: MakeRun
) -> None:
    out = make_run(wrong={"student-int8": range(200)}, max_drop=max_drop)
    record = json.loads((out / "run.json").read_text())
    record["targets"][0]["climbed_for"] = climbed_for
    (out / "run.json").write_text(json.dumps(record))
    notes = [note for note in collect(out).notes if "was climbed for" in note]
    assert notes == noted * [
        'The recovery ladder on onnxruntime was climbed for GATE="top1=5", not for GATE="top1=1": a changed gate only judges '
        'what was built before. ARGS="--set ladder.again=true" climbs it for the new gate.'
    ]


def test_a_run_whose_stages_are_gone_is_no_run_before(make_run: MakeRun) -> None:
    out = make_run()
    assert set(targets_before(out)) == {"onnxruntime", "tensorrt", "openvino"}
    shutil.rmtree(out / "stages" / "latency")
    assert targets_before(out) == {}
    (out / "run.json").write_text("{}")
    assert targets_before(out) == {}
    (out / "run.json").unlink()
    assert targets_before(out) == {}
