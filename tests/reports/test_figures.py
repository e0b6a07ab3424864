"""What the figures of report.html draw: the values of the run, at the right places."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.axis import Axis, linear, of_latencies
from reports.distributions import distributions
from reports.layers import Layer, layers_of
from reports.level_figure import levels_figure
from reports.rows import collect
from reports.run_folder import read_record
from reports.trail import Source, trail
from reports.training import COLOURS, picture, trainings
from tests.reports.complete import LAYERS, complete

MakeRun = Callable[..., Path]


def test_places_on_an_axis() -> None:
    axis = linear([0.3, 2.6])
    assert axis.values == [0, 1, 2, 3] and [axis.at(value) for value in (0, 1.5, 3, 9, -9)] == [0, 50, 100, 100, 0]
    assert [tick.text for tick in axis.ticks] == ["0", "1", "2", "3"]
    logarithmic = of_latencies([1.0, 100.0])
    assert logarithmic.logarithmic and logarithmic.at(10) == 50
    assert of_latencies([1.0, 9.0]) == Axis(values=[0, 2.5, 5, 7.5, 10])


def test_boxes_are_at_the_quantiles_of_the_latencies(make_run: MakeRun) -> None:
    report = collect(complete(make_run()))
    (figure,) = distributions(report.rows)
    assert figure.target == "onnxruntime" and figure.axis.logarithmic
    assert [box.row.name.key for box in figure.boxes] == ["baseline-fp32", "student-fp32", "student-int8"]
    for box in figure.boxes:
        assert box.low < box.left < box.middle < box.right < box.high < box.tail
        assert box.middle == figure.axis.at(box.latency.p50) and len(box.turns) == 10


def test_without_a_recorded_distribution_nothing_is_drawn(make_run: MakeRun) -> None:
    assert distributions(collect(make_run()).rows) == []


def test_layers_have_their_channels_and_macs_before_and_after(make_run: MakeRun) -> None:
    found = layers_of(read_record(complete(make_run())), "onnxruntime")
    assert found is not None and [layer.name for layer in found.layers] == LAYERS
    pixels = 64
    assert found.layers[1] == Layer(
        name="layer1.0.conv1", before=16, after=8, macs_before=pixels * 16 * 16, macs_after=pixels * 16 * 8, placed=True,
        damage=None,
    )  # fmt: skip
    assert found.layers[2].damage == 0.04 == found.worst_damage and found.layers[-1].damage == 0.01
    assert [layer.placed for layer in found.layers] == [True] * 7 + [False], "the last layer has no Q/DQ"
    assert [(stage.name, stage.layers) for stage in found.stages] == [
        ("conv1", 1), ("layer1", 2), ("layer2", 2), ("layer3", 2), ("fc", 1),
    ]  # fmt: skip
    assert found.stages[1].before == 2 * pixels * 256 and found.stages[1].after == pixels * 8 * (16 + 16)
    assert found.starts[1] == ("layer1", 12.5, 25.0)


def test_a_run_without_its_files_has_no_layers(make_run: MakeRun) -> None:
    out = make_run()
    assert layers_of(read_record(out), "onnxruntime") is None and layers_of(read_record(out), "openvino") is None


def test_curves_and_norms_of_a_training(make_run: MakeRun) -> None:
    run = read_record(complete(make_run()))
    (training,) = trainings(run.stages, labelled=True)
    loss, top1 = training.curves
    assert training.augmentation == "flips and mixup (0.2)"
    assert loss.label == "loss" and loss.values[0] == 2.0 and top1.values[0] == 60.0
    assert loss.dots[0] == (0, 0) and loss.dots[-1][0] == 100, "the first loss is the highest"
    assert training.norms is not None and training.norms.layers == LAYERS
    first, second = training.norms.table[0], training.norms.table[3]
    assert first == ("conv1", 0.5, pytest.approx(0.5 / 12), 0.5)
    assert second == ("layer2.0.conv1", None, pytest.approx(0.5 / 12 / 4), pytest.approx(0.5 / 2 / 4))
    assert [curve.label for curve in trainings(run.stages, labelled=False)[0].curves] == ["loss"]


def test_the_picture_of_the_norms_has_a_row_per_layer_and_a_column_per_epoch() -> None:
    """Two epochs of three layers: logarithmic colours, nothing where there is no norm."""
    uri = picture([[0.01, 0.1, None], [1.0, 0.1, 0.01]], 0.01, 1.0)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert pixels.shape == (3, 2, 4)
    assert pixels[0, 0].tolist() == [*COLOURS[0], 255] and pixels[0, 1].tolist() == [*COLOURS[-1], 255]
    assert pixels[1, 0].tolist() == pixels[1, 1].tolist() == [*COLOURS[2], 255], "0.1 is in the middle"
    assert pixels[2, 0, 3] == 0 and pixels[2, 1].tolist() == [*COLOURS[0], 255]


@pytest.mark.parametrize("known", [[0.5, 0.5], [0.5, None]])
def test_equal_norms_have_one_colour(known: list[float | None]) -> None:
    assert picture([known], 0.5, 0.5).startswith("data:image/png")


def test_levels_show_what_they_were_judged_on(make_run: MakeRun) -> None:
    out = complete(make_run())
    report = collect(out)
    judged = [row.model_copy(update={"variant": "75% of MACs"}) if row.drop else row for row in report.rows]
    found = levels_figure(report.model_copy(update={"rows": judged}))
    assert found is not None and [tried.level.name for tried in found.levels] == ["75% of MACs", "50% of MACs"]
    assert [[row.id for row in tried.judged] for tried in found.levels] == [["student-int8/onnxruntime"], []]
    for tried in found.levels:
        assert tried.low < tried.at < tried.high
    assert found.zero == found.axis.at(0) and levels_figure(report.model_copy(update={"levels": []})) is None


def test_every_artifact_names_what_it_was_made_from(make_run: MakeRun) -> None:
    made = {entry.stage.name: entry for entry in trail(collect(complete(make_run())).stages)}
    assert made["train"].sources == [] and made["train"].stage.content == "aa" * 32
    assert made["prune"].sources == [
        Source(role="model", stage="train", content="aa" * 32),
        Source(role="images", stage=None, content="cc" * 32),
    ]


def test_inputs_of_several_artifacts_are_listed_each(make_run: MakeRun) -> None:
    stage = collect(make_run()).stages[0].model_copy(update={"inputs": {"engines": {"a": "1", "b": "2"}, "images": "3"}})
    (made,) = trail([stage])
    assert [(source.role, source.content) for source in made.sources] == [("a", "1"), ("b", "2"), ("images", "3")]


def test_report_json_has_the_confusions_and_the_gained_images(make_run: MakeRun) -> None:
    """The synthetic networks take class c for c + 5: the baseline for images 0, 3, 6, the engine for 0, 1 and 2."""
    report = collect(make_run(wrong={"baseline-fp32": [0, 3, 6], "student-int8": [0, 1, 2]}))
    assert [image.index for image in report.lost_images] == [1, 2]
    assert [image.index for image in report.gained_images] == [3, 6]
    changes = {(pair.label, pair.predicted): (pair.before, pair.after) for pair in report.confusions}
    names = report.dataset.classes
    assert changes == {
        (names[1], names[6]): (0, 1), (names[2], names[7]): (0, 1), (names[3], names[8]): (1, 0), (names[6], names[1]): (1, 0),
    }  # fmt: skip


def test_unlabelled_images_are_never_gained(make_run: MakeRun) -> None:
    report = collect(make_run(labelled=False, wrong={"baseline-fp32": [0], "student-int8": [1, 2]}))
    assert report.gained_images == [] and {image.index for image in report.lost_images} == {0, 1, 2}
    assert sum(pair.after for pair in report.confusions) == 3 and not any(pair.before for pair in report.confusions)


def test_the_new_fields_survive_in_report_json(make_run: MakeRun) -> None:
    stored = json.loads(collect(complete(make_run())).model_dump_json())
    prune = next(stage for stage in stored["stages"] if stage["name"] == "prune")
    assert prune["content"] == "bb" * 32 and prune["inputs"] == {"model": "aa" * 32, "images": "cc" * 32}
    row = next(row for row in stored["rows"] if row["id"] == "student-int8/onnxruntime")
    assert row["latency_ms"]["quantiles"] == pytest.approx([0.45, 0.475, 0.5, 0.55, 0.6])
    assert len(row["chosen_on"]["interval"]) == 2
