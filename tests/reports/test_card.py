"""bundle/README.md: the hub's library reads the same facts from it as the report has."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from data.index import NAMED
from reports.card import card, write_card
from reports.rows import collect

MakeRun = Callable[..., Path]


def test_the_hub_reads_what_the_report_has(make_run: MakeRun) -> None:
    report = collect(make_run())
    public = report.dataset.model_copy(update={"classes": NAMED["fashion-mnist"]["classes"]})
    read = ModelCard(card(report.model_copy(update={"dataset": public}))).data
    assert read.library_name == "onnxruntime" and read.pipeline_tag == "image-classification"
    assert read.datasets == ["fashion-mnist"] and read.metrics == ["accuracy"]
    assert {"respress", "resnet101", "onnxruntime", "tensorrt", "int8"} <= set(read.tags or [])
    (result,) = read.eval_results or []
    (row,) = (row for row in report.rows if row.id == "student-int8/onnxruntime")
    assert row.accuracy and result.metric_value == pytest.approx(row.accuracy.top1 / 100)
    assert (result.dataset_name, result.dataset_split, result.metric_type) == ("fashion-mnist", "test", "accuracy")


@pytest.mark.parametrize("how", [{}, {"labelled": False}, {"measured": False}])
def test_it_invents_nothing(make_run: MakeRun, how: dict[str, Any]) -> None:
    report = collect(make_run(**how))
    text = card(report)
    read = ModelCard(text).data
    assert read.license is None and "license:" in text, "the user states it"
    assert bool(read.eval_results) == (how == {})
    assert "None" not in text and "nan" not in text
    assert ("not accuracy" in text) == (not report.dataset.labelled)
    left = {row.id for row in report.rows if not row.ships}
    for note in report.notes:
        assert (note in text) == (note.split()[0] not in left)
    for target in ("onnxruntime", "tensorrt"):
        assert f"cd {target}\n" in text
    assert "cd openvino" not in text


def test_a_rung_of_the_ladder_that_stays_behind_is_no_limit_of_what_ships(make_run: MakeRun) -> None:
    report = collect(make_run())
    notes = ["student-mixed1/onnxruntime: also fails", "student-int8/onnxruntime: close to its limit", "10 images are copies"]
    text = card(report.model_copy(update={"notes": notes}))
    assert [note in text for note in notes] == [False, True, True]


@pytest.mark.parametrize("name", ['parts: "new"', "fashion-mnist"])
def test_a_folder_of_images_is_no_public_data_set(make_run: MakeRun, name: str) -> None:
    report = collect(make_run())
    dataset = report.dataset.model_copy(update={"name": name, "classes": [f"part {i}" for i in range(10)]})
    read = ModelCard(card(report.model_copy(update={"dataset": dataset}))).data
    (result,) = read.eval_results or []
    assert (result.dataset_name, result.dataset_type, read.datasets) == (name, "imagefolder", None)


def test_it_is_written_only_beside_what_ships(make_run: MakeRun) -> None:
    out = make_run()
    report = collect(out)
    write_card(report, out)
    assert not (out / "bundle").exists()
    (out / "bundle").mkdir()
    write_card(report, out)
    assert re.match(r"---\n(.|\n)*?\n---\n\n# resnet101", (out / "bundle/README.md").read_text())
    nothing = report.model_copy(update={"rows": [row.model_copy(update={"ships": False}) for row in report.rows]})
    (out / "bundle/README.md").unlink()
    write_card(nothing, out)
    assert not list((out / "bundle").iterdir())
