"""Plain against residual networks: from a few images to the curves, the figures and the table."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import torch

import benchmarks.depth
from benchmarks.ablate import SHORT, configured, main
from benchmarks.depth import WHOLE, Ablate, ablated
from compress.top1 import right
from core.digest import modules_of
from data.loader import Split
from models.resnet import ResNet
from reports.ablation import Curves
from tests.compress.parts import TINY, part_of
from tests.conftest import Small
from tests.pipeline.test_readme import forwarded

PROJECT = Path(__file__).resolve().parents[2]
FEW = ["data.train_limit=60", "data.test_limit=30", "ablate.batch_size=16", "ablate.epochs=2"]


@pytest.fixture(scope="session")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make ablate` leaves for networks of 20 layers and two seeds, on a few images."""
    folder = tmp_path_factory.mktemp("ablation")
    main("20", "plain,A,B", "0,1", "fashion-mnist", 1, FEW, folder / "out", folder / "RESULTS.md")
    return folder


def test_every_training_records_its_errors_and_gradients(ablation: Path) -> None:
    curves = Curves.model_validate_json((ablation / "out" / "curves.json").read_text())
    assert [(one.seed, one.shortcut) for one in curves.trained] == [
        (seed, shortcut) for seed in (0, 1) for shortcut in ("none", "padding", "projection")
    ]
    for one in curves.trained:
        assert len(one.loss) == len(one.train_error) == len(one.test_error) == 2
        assert all(0 <= error <= 100 for error in one.train_error + one.test_error)
        layers = [name for name in one.gradients.layers if ".downsample." not in name]
        assert len(layers) == 20 and (layers[0], layers[-1]) == ("conv1", "fc")
    plain, padded, projected = curves.trained[:3]
    assert plain.params == padded.params < projected.params and plain.macs == padded.macs < projected.macs
    assert len({tuple(one.loss) for one in curves.trained}) == 6


def test_the_table_and_the_page_have_the_numbers_of_the_curves(ablation: Path) -> None:
    text = (ablation / "RESULTS.md").read_text()
    assert text.count("## Plain and residual networks, fashion-mnist, 2 epochs") == 1
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| (plain|option)", line)]
    curves = Curves.model_validate_json((ablation / "out" / "curves.json").read_text())
    assert [row[0] for row in rows] == ["plain", "option A", "option B"]
    page = (ablation / "out" / "ablation.html").read_text()
    for row, network in zip(rows, curves.networks, strict=True):
        first, second = (one.test_error[-1] for one in network.trained)
        expected = f"{(first + second) / 2:.2f} ({min(first, second):.2f} … {max(first, second):.2f})"
        assert row[5] == expected and f">{expected}<" in page
    assert "2 epochs (the paper: 172)" in text and "20 layers, option A instead of plain: training error" in text


def test_an_interrupted_run_continues_and_a_finished_one_trains_nothing(
    ablation: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = {path: path.stat().st_mtime_ns for path in (ablation / "out" / "stages").glob("*/manifest.json")}
    main("20", "plain,A,B", "0,1", "fashion-mnist", 1, FEW, ablation / "out", tmp_path / "RESULTS.md")
    assert {path: path.stat().st_mtime_ns for path in (ablation / "out" / "stages").glob("*/manifest.json")} == manifests

    images = part_of(small.images, tmp_path / "images", train=48, val=8)
    config = Ablate(epochs=3, batch_size=16, arch="resnet20", shortcut="none")
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    expected = ablated(config, tmp_path / "whole", images=images)
    calls = []

    def stops(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == 3:  # in the second epoch
            raise KeyboardInterrupt
        return right(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(benchmarks.depth, "right", stops)
    with pytest.raises(KeyboardInterrupt):
        ablated(config, tmp_path / "broken", images=images)
    assert (tmp_path / "broken" / "epoch.pt").exists()
    assert ablated(config, tmp_path / "broken", images=images)["history"] == expected["history"]


def test_the_training_error_is_of_a_fixed_slice_without_augmentation(small: Small) -> None:
    torch.manual_seed(0)
    network, split = ResNet(TINY), Split(small.images, "train")
    some = right(network, split, 50, limit=100)
    assert len(some) == 100 and (some == right(network, split, 50, limit=100)).all()
    everything = right(network, split, 50)
    assert len(everything) == len(split) and 0 < some.sum() <= everything.sum()


def test_the_schedule_is_that_of_the_recipe() -> None:
    recipe = tomllib.loads((PROJECT / "recipes" / "cifar10-resnet20.toml").read_text())
    for key, value in {**recipe["train"], "label_smoothing": 0.0}.items():
        if key == "label_smoothing":
            assert value == 0.0, "the loss of the benchmark has none"
        elif key == "augment":
            assert Ablate().augment is not None and Ablate().augment == Ablate(augment=value).augment
        else:
            assert json.loads(Ablate().model_dump_json())[key] == value
    assert Ablate().epochs == WHOLE


@pytest.mark.parametrize(("device", "epochs"), [("cuda", WHOLE), ("cpu", SHORT)])
def test_without_epochs_a_gpu_trains_as_long_as_the_paper(device: str, epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.ablate.device_and_precision", lambda: (torch.device(device), torch.float32))
    assert configured({}).epochs == epochs and configured({"epochs": 7}).epochs == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"shortcuts": "plain,C"}, "--shortcuts 'C': expected plain, A, B"),
        ({"layers": "21"}, "unknown model 'resnet21'"),
        ({"layers": "50"}, "resnet50 has bottleneck blocks; expected basic blocks"),
        ({"changes": ["train.epochs=3"]}, r"--set train.epochs: expected a key of ablate.… or data.…"),
        ({"changes": ["ablate.epoch=3"]}, "--set ablate.unknown key 'epoch'"),
        ({"changes": ["ablate.minutes=3"]}, "--set ablate.minutes: networks of different speed"),
        ({"changes": ["ablate.seed=3"]}, "--set ablate.seed: expected --seeds"),
        ({"changes": ["ablate.epochs=1"]}, "--set ablate.epochs = 1"),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_is_trained(
    flags: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        main(**flags, out=tmp_path / "out", results=tmp_path / "RESULTS.md")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_make_forwards_its_variables() -> None:
    words = forwarded(
        "ablate", "LAYERS=20", "SHORTCUTS=plain,A", "EPOCHS=4", "SEEDS=0,1", "JOBS=2", "DATA=a b", "ARGS=--set x.y=1"
    )
    assert " ".join(words[1:]) == (
        "-m benchmarks.ablate --layers 20 --shortcuts plain,A --seeds 0,1 --data a b --jobs 2 --set ablate.epochs=4 --set x.y=1"
    )
    assert forwarded("ablate")[1:] == ["-m", "benchmarks.ablate"]


def test_a_change_of_the_figures_does_not_train_anything_again() -> None:
    assert not [name for name in modules_of("benchmarks.depth") if name.startswith(("reports.", "benchmarks.ablate"))]
