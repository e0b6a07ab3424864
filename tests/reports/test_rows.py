"""What the report says about a run on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.engine_name import EngineName
from reports.rows import collect, missing, missing_requested
from reports.schema import Report, Row

MakeRun = Callable[..., Path]


def row(report: Report, key: str) -> Row:
    return next(row for row in report.rows if row.id == key)


def test_rows_of_every_target(make_run: MakeRun) -> None:
    report = collect(make_run())
    assert [(r.id, r.status) for r in report.rows] == [
        ("baseline-fp32/onnxruntime", "measured"),
        ("student-fp32/onnxruntime", "measured"),
        ("student-int8/onnxruntime", "measured"),
        ("baseline-fp32/tensorrt", "built"),
        ("student-fp32/tensorrt", "built"),
        ("student-int8/tensorrt", "built"),
        ("student-int8/openvino", "unavailable"),
    ]
    assert [r.id for r in report.rows if r.ships] == ["student-int8/onnxruntime", "student-int8/tensorrt"]


def test_numbers_of_a_measured_row(make_run: MakeRun) -> None:
    out = make_run(wrong={"baseline-fp32": range(0, 20), "student-int8": range(15, 22)})
    found = row(collect(out), "student-int8/onnxruntime")
    assert found.accuracy is not None and found.drop is not None and found.latency_ms is not None
    assert (found.accuracy.correct, found.accuracy.n) == (993, 1000)
    assert found.accuracy.top1 == pytest.approx(99.3)
    assert found.accuracy.top5 == pytest.approx(99.7), "the fixture puts the right class second for odd images"
    assert (found.drop.lost, found.drop.gained) == (2, 15)
    assert found.speedup == 8.0
    assert (found.latency_ms.batch, found.latency_ms.threads, found.latency_ms.n) == (1, 2, 200)
    assert [point.batch for point in found.throughput] == [1, 8, 32]
    assert found.artifact is not None and (out / found.artifact).parent.is_dir()
    assert (found.params, found.macs) == (10_000_000, 1_900_000_000)


def test_the_baseline_is_compared_with_nothing(make_run: MakeRun) -> None:
    baseline = row(collect(make_run()), "baseline-fp32/onnxruntime")
    assert baseline.drop is None
    assert baseline.speedup == 1.0


def test_what_was_not_measured_has_no_numbers(make_run: MakeRun) -> None:
    report = collect(make_run())
    for key, reason in (("tensorrt", "no GPU here"), ("openvino", "pip install openvino")):
        found = row(report, f"student-int8/{key}")
        assert (found.accuracy, found.drop, found.latency_ms, found.speedup, found.throughput) == (None,) * 4 + ([],)
        assert found.reason is not None and reason in found.reason


def test_gate_judges_the_int8_engines(make_run: MakeRun) -> None:
    gate = collect(make_run()).gate
    assert gate.verdict == "pass"
    assert [(entry.id, entry.verdict) for entry in gate.rows] == [
        ("student-int8/onnxruntime", "pass"),
        ("student-int8/tensorrt", "unmeasured"),
    ]


def test_strict_counts_an_unmeasured_engine_that_ships_as_inconclusive(make_run: MakeRun) -> None:
    report = collect(make_run(strict=True))
    assert report.gate.verdict == "inconclusive"
    assert any("STRICT" in note for note in report.notes)


def test_nothing_measured_is_inconclusive(make_run: MakeRun) -> None:
    assert collect(make_run(measured=False)).gate.verdict == "inconclusive"


@pytest.mark.parametrize("max_drop", [1.0, -5.0])
def test_an_engine_that_fails_does_not_ship(make_run: MakeRun, max_drop: float) -> None:
    wrong = {"student-int8": range(50)} if max_drop > 0 else {}
    report = collect(make_run(wrong=wrong, max_drop=max_drop))
    assert report.gate.verdict == "fail"
    assert not row(report, "student-int8/onnxruntime").ships
    assert any("fails the gate and does not ship" in note for note in report.notes)


def test_an_inconclusive_engine_ships_and_says_how_many_images_would_decide(make_run: MakeRun) -> None:
    report = collect(make_run(wrong={"student-int8": range(25)}))
    found = row(report, "student-int8/onnxruntime")
    assert found.drop is not None and found.drop.needed is not None
    assert report.gate.verdict == "inconclusive" and found.ships
    assert any(f"About {found.drop.needed:,} test images would decide it" in note for note in report.notes)


def test_says_when_int8_is_not_faster(make_run: MakeRun) -> None:
    notes = collect(make_run(p50=(2.0, 0.75, 0.81))).notes
    expected = "INT8 is not faster than FP32 of the same network on onnxruntime: 0.81 ms against 0.75 ms"
    assert any(note.startswith(expected) for note in notes)


def test_says_when_int8_is_not_smaller(make_run: MakeRun) -> None:
    notes = collect(make_run(sizes=(170_310_000, 7_670_000, 8_980_000))).notes
    expected = "INT8 is not smaller than FP32 of the same network on tensorrt: 8.98 MB against 7.67 MB."
    assert expected in notes


def test_without_fine_tuning_int8_is_compared_with_the_baseline(make_run: MakeRun) -> None:
    report = collect(make_run(tuned=False, p50=(0.75, 9.0, 0.81), sizes=(7_670_000, 1, 8_980_000)))
    assert [r.id for r in report.rows if r.target == "onnxruntime"] == ["baseline-fp32/onnxruntime", "student-int8/onnxruntime"]
    found = row(report, "student-int8/onnxruntime")
    assert (found.params, found.macs, found.ships) == (42_500_000, 7_800_000_000, True)
    assert any(note.startswith("INT8 is not faster than FP32") and "0.81 ms against 0.75 ms" in note for note in report.notes)
    for target in ("onnxruntime", "tensorrt"):
        assert f"INT8 is not smaller than FP32 of the same network on {target}: 8.98 MB against 7.67 MB." in report.notes


def test_without_fine_tuning_a_clean_run_has_no_complaint(make_run: MakeRun) -> None:
    notes = collect(make_run(tuned=False)).notes
    assert len(notes) == 2 and not any("same network" in note for note in notes)


def test_a_fine_tuned_student_is_not_compared_with_the_baseline(make_run: MakeRun) -> None:
    notes = collect(make_run(p50=(0.4, 0.75, 0.5))).notes
    assert not any("not faster" in note for note in notes)


def test_what_stages_had_to_say_comes_first_and_once(make_run: MakeRun) -> None:
    notes = collect(make_run(notes=(["Three images cannot be read.", "Few images."], ["Few images.", "Kept whole."]))).notes
    assert notes[:3] == ["Three images cannot be read.", "Few images.", "Kept whole."]
    assert len(notes) == 5 and "verify.py" in notes[3]


def test_says_how_images_were_prepared(make_run: MakeRun) -> None:
    found = collect(make_run()).dataset.preprocess
    assert found == {"channels": 1, "input_size": 32, "resize": "pad", "mean": [0.286], "std": [0.353]}


def test_says_when_little_executes_in_int8(make_run: MakeRun) -> None:
    notes = collect(make_run(int8_share=0.72)).notes
    assert any("Only 72 %" in note for note in notes)


def test_a_clean_run_says_only_what_was_not_measured(make_run: MakeRun) -> None:
    notes = collect(make_run()).notes
    assert len(notes) == 2
    assert "verify.py" in notes[0] and "openvino is not available here" in notes[1]


def test_missing_requested(make_run: MakeRun) -> None:
    assert missing_requested(collect(make_run(requested=["onnxruntime", "openvino"]))) == ["openvino"]


def test_what_was_not_requested_is_not_missing(make_run: MakeRun) -> None:
    assert missing_requested(collect(make_run())) == []


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no finished run in .*; run `make compress"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("form", "precision"), [("fp32", "fp32"), ("bf16", "bf16"), ("mixed", "mixed"), ("mixed13", "mixed"), ("qat", "int8")]
)
def test_every_engine_that_failed_has_a_row(form: str, precision: str) -> None:
    row = missing(EngineName("student", form, "", "onnxruntime"), "its build failed: no kernel")
    assert (row.precision, row.status, row.reason) == (precision, "unavailable", "its build failed: no kernel")
