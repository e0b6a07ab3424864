"""Images without labels: the gate judges agreement with the FP32 baseline, and the report shows no accuracy."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from measure.engines import Predict, predict
from measure.statistics import tango_upper
from reports.render import render
from reports.rows import collect
from reports.schema import Report, Row

MakeRun = Callable[..., Path]


def row(report: Report, key: str) -> Row:
    return next(row for row in report.rows if row.id == key)


def test_agreement_counts_images_with_the_baselines_prediction(make_run: MakeRun) -> None:
    # The baseline's 20 wrong predictions count as right; the engine has the last 15 of them and 3 others.
    wrong = {"baseline-fp32": range(20), "student-int8": range(5, 23)}
    report = collect(make_run(labelled=False, wrong=wrong))
    found = row(report, "student-int8/onnxruntime")
    assert found.agreement is not None and found.drop is not None
    assert (found.agreement.agreeing, found.agreement.n, found.agreement.percent) == (992, 1000, pytest.approx(99.2))
    assert (found.drop.lost, found.drop.gained, found.drop.n, found.drop.points) == (8, 0, 1000, 0.8)
    assert found.drop.upper_95 == tango_upper(8, 0, 1000)
    assert found.drop.relative_percent is None, "the accuracy of the baseline is unknown"
    assert found.drop.verdict == "inconclusive" and found.drop.needed is not None


def test_nothing_has_an_accuracy(make_run: MakeRun) -> None:
    report = collect(make_run(labelled=False))
    assert {found.accuracy for found in report.rows} == {None}
    assert report.gate.metric == "agreement" and not report.dataset.labelled
    assert report.per_class == []
    baseline = row(report, "baseline-fp32/onnxruntime")
    assert baseline.status == "measured" and baseline.latency_ms is not None
    assert baseline.agreement is None and baseline.drop is None
    held_out = row(report, "student-fp32/onnxruntime").chosen_on
    assert held_out is not None and held_out.agreement is not None and held_out.top1 is None
    assert row(report, "student-int8/tensorrt").status == "built"


def test_labelled_images_have_no_agreement(make_run: MakeRun) -> None:
    report = collect(make_run())
    assert {found.agreement for found in report.rows} == {None}
    assert report.gate.metric == "top1" and report.dataset.labelled


@pytest.mark.parametrize(("other", "verdict"), [(0, "pass"), (5, "inconclusive"), (10, "fail")])
def test_the_same_limit_judges_agreement(make_run: MakeRun, other: int, verdict: str) -> None:
    out = make_run(labelled=False, wrong={"baseline-fp32": [], "student-int8": range(other)})
    report = render(out)
    found = row(report, "student-int8/onnxruntime")
    assert report.gate.verdict == verdict and found.ships == (verdict != "fail")
    assert sum("points of agreement with the FP32 baseline lost" in note for note in report.notes) == (verdict != "pass")


def test_images_predicted_differently_have_no_label(make_run: MakeRun) -> None:
    out = make_run(labelled=False, wrong={"baseline-fp32": [3], "student-int8": [3, 12]})
    report = render(out)
    assert [(image.index, image.label) for image in report.lost_images] == [(12, None)]
    assert (report.lost_images[0].baseline_answer, report.lost_images[0].answer) == ("a|b", "`tick")
    html = (out / "report.html").read_text()
    assert "Images predicted differently" in html and "test #12" in html and "Per class" not in html


@pytest.mark.parametrize("name", ["report.md", "report.html"])
@pytest.mark.parametrize("measured", [True, False])
def test_reports_speak_of_agreement_only(make_run: MakeRun, name: str, measured: bool) -> None:
    out = make_run(labelled=False, measured=measured, wrong={"baseline-fp32": [], "student-int8": range(4)})
    report = render(out)
    text = " ".join((out / name).read_text().split())
    assert "Agreement does not show how often both are wrong" in report.notes[0]
    assert text.count("Agreement does not show how often both are wrong") == 2, "among the findings and beside the gate"
    assert "points of agreement" in text and "judges agreement with the FP32 baseline, not accuracy" in text
    assert not re.search("[Tt]op-?1|None", text)
    if measured:
        assert (
            "99.60 %" in text
            and re.search("996 of 1,000 unlabelled images|1,000 unlabelled: 99.60 % the same", text)
            and "0.40 [" in text
        )


def test_predict_leaves_what_needs_labels_open(make_run: MakeRun, tmp_path: Path) -> None:
    images = make_run(labelled=False, n=30) / "stages/index"
    metrics = predict(
        Predict(batch_size=4), tmp_path, load=lambda engine, threads: by_brightness, engine=tmp_path, images=images
    )
    assert metrics == {"top1": None, "top5": None, "correct": None, "n": 30}
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert arrays["top5"].shape == (30, 5) and set(arrays["labels"].tolist()) == {-1}
    assert json.loads(json.dumps(metrics)) == metrics


def test_predict_counts_where_there_are_labels(make_run: MakeRun, tmp_path: Path) -> None:
    images = make_run(n=30) / "stages/index"
    metrics = predict(Predict(batch_size=4), tmp_path, load=lambda engine, threads: always_two, engine=tmp_path, images=images)
    assert metrics == {"top1": 10.0, "top5": 50.0, "correct": 3, "n": 30}


def by_brightness(x: np.ndarray) -> np.ndarray:
    return np.outer(x.mean(axis=(1, 2, 3)), np.arange(10, dtype=np.float32))


def always_two(x: np.ndarray) -> np.ndarray:
    """Class 2, then 0, 1, 3, 4, …"""
    return np.tile(-np.asarray([1, 2, 0, 3, 4, 5, 6, 7, 8, 9], np.float32), (len(x), 1))
