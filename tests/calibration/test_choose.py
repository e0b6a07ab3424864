"""What is chosen is what answers best in the placed file, on images that did not calibrate."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.choose import PER_TENSOR, SYMMETRIC_GRID, assignments
from calibration.observe import Calibrate, held_out_images, observe
from calibration.place import CORRECTIONS, NEUTRAL, SYMMETRIC, network_of, place_qdq
from calibration.ranges import rounding_error, select
from calibration.session import divergence, predict_logits
from calibration.statistics import observed, statistics
from data.loader import Split, batches
from tests.conftest import Small


def shown(small: Small, count: int) -> np.ndarray:
    """The images that `count` calibrating ones are."""
    return np.concatenate([x.numpy() for x, _ in batches(Split(small.images, "train"), 16, shuffle=True, limit=count)])


def test_divergence_is_that_of_the_probabilities() -> None:
    reference = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32))
    logits = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32))
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert divergence(reference, logits) == pytest.approx(expected, rel=1e-5)
    assert divergence(reference, logits + 100) == pytest.approx(expected, rel=1e-3)  # a constant says nothing
    assert divergence(reference, reference) == 0


@pytest.fixture(scope="module")
def chosen(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("chosen")
    return folder, observe(Calibrate(images=64, equalize=False), folder, model=small.onnx, images=small.images)


def test_the_placed_file_diverges_as_little_as_the_choice_says_and_no_candidate_less(
    small: Small, chosen: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    folder, metrics = chosen
    divergences = metrics["divergence"]
    assert isinstance(divergences, dict)
    assert {"max", "mse", "entropy", PER_TENSOR, "percentile 99.99", "percentile 99.999"} < set(divergences)
    place_qdq(NEUTRAL, tmp_path, model=small.onnx, ranges=folder)
    images = [x.numpy() for x, _ in batches(Split(small.images, "val"), 16, shuffle=True, limit=256)]
    found = divergence(*(predict_logits(onnx.load(place / "model.onnx"), images) for place in (small.onnx, tmp_path)))
    assert found == pytest.approx(min(divergences.values()), rel=1e-3)
    assert metrics["held_out"] == {"split": "val", "images": sum(map(len, images))}
    methods = metrics["methods"]
    assert isinstance(methods, dict) and sum(methods.values()) == metrics["tensors"]
    assert metrics["corrected"] == (folder / CORRECTIONS[False]).exists()


def test_symmetric_activations_have_the_ranges_that_are_best_for_them(
    small: Small, chosen: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    folder, metrics = chosen
    symmetric = metrics["symmetric"]
    assert isinstance(symmetric, dict)
    assert sum(symmetric["methods"].values()) == metrics["tensors"]
    place_qdq(SYMMETRIC_GRID, tmp_path, model=small.onnx, ranges=folder)
    images = [x.numpy() for x, _ in batches(Split(small.images, "val"), 16, shuffle=True, limit=256)]
    found = divergence(*(predict_logits(onnx.load(place / "model.onnx"), images) for place in (small.onnx, tmp_path)))
    divergences = symmetric["divergence"]
    assert found == pytest.approx(divergences[symmetric["chosen"]], rel=1e-3)
    assert divergences[symmetric["chosen"]] == min(divergences.values())


def test_each_grid_is_placed_with_its_own_ranges(small: Small, tmp_path: Path) -> None:
    observe(Calibrate(images=32, method="mse"), tmp_path, model=small.onnx, images=small.images)
    files = {
        grid: json.loads((tmp_path / file).read_text())
        for grid, file in ((NEUTRAL, "ranges.json"), (SYMMETRIC_GRID, SYMMETRIC))
    }
    assert files[NEUTRAL] != files[SYMMETRIC_GRID]
    for grid, written in files.items():
        _, limits = network_of(small.onnx, tmp_path, grid)
        assert limits == {name: tuple(ends) for name, ends in written.items()}


@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_are_those_of_the_named_method_for_every_tensor(
    small: Small, chosen: tuple[Path, dict[str, object]], symmetric: bool
) -> None:
    folder, metrics = chosen
    proto = onnx.load(small.onnx / "model.onnx")
    _, histograms = statistics(proto, observed(proto), np.split(shown(small, 64), 4), Calibrate().samples)
    about = metrics["symmetric"] if symmetric else metrics
    assert isinstance(about, dict)
    ranges, _ = assignments(histograms, 99.99, symmetric)[about["chosen"]]
    _, written = network_of(small.onnx, folder, SYMMETRIC_GRID if symmetric else NEUTRAL)
    assert set(written) == set(ranges)
    for name, found in written.items():
        assert found == pytest.approx(ranges[name], rel=1e-3, abs=1e-5), name


def test_the_pick_per_tensor_rounds_best_of_all_methods(small: Small) -> None:
    proto = onnx.load(small.onnx / "model.onnx")
    _, histograms = statistics(proto, observed(proto), np.split(shown(small, 64), 4), Calibrate().samples)
    found = assignments(histograms, 99.9)
    assert "percentile 99.9" in found and "percentile 99.99" in found
    ranges, methods = found[PER_TENSOR]
    assert len(set(methods.values())) > 1
    for name, histogram in histograms.items():
        errors = {method: rounding_error(histogram, *whole[name]) for method, (whole, _) in found.items()}
        assert errors[PER_TENSOR] == min(errors.values())
        assert ranges[name] == found[methods[name]][0][name]
    assert found["max"][0] == {name: select(h, method="max") for name, h in histograms.items()}


def test_a_method_by_name_is_taken_at_its_word(small: Small, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    metrics = observe(Calibrate(images=32, method="max"), tmp_path / "none", model=small.onnx, images=small.images)
    assert metrics == {"method": "max", "images": 32, "tensors": len(json.loads((tmp_path / "none/ranges.json").read_text()))}
    assert not (tmp_path / "none" / CORRECTIONS[False]).exists()
    assert not (tmp_path / "none" / SYMMETRIC).exists()  # the maximum is the same for every grid


def test_without_val_images_are_held_out_of_the_training_images(small: Small, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(small.images, images)
    dataset = json.loads((images / "dataset.json").read_text())
    dataset["splits"].pop("val")
    (images / "dataset.json").write_text(json.dumps(dataset))
    count = len(Split(images, "train"))
    config = Calibrate(images=64, held_out=48)
    split, held_out = held_out_images(config, images, 16, 64)
    calibrated = {x.tobytes() for x in shown(small, 64)}
    assert split == "train"
    assert sum(map(len, held_out)) == 48
    assert not calibrated & {x.tobytes() for batch in held_out for x in batch}
    _, held_out = held_out_images(config, images, 16, count)  # all calibrated: better those than none
    assert sum(map(len, held_out)) == 48
    few = Calibrate(images=count - 4, held_out=48)
    _, held_out = held_out_images(few, images, 16, (count - 4) // 16 * 16)
    assert sum(map(len, held_out)) > 0
