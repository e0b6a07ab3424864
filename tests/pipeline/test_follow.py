"""The recipe with training that follows the images: what stages are run with, and what their cache keys hold."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.distill import distill
from compress.follow import derive_schedule
from core.cache import Artifact, Stages
from data.augment import Augment
from data.index import Data, index
from models.resnet import FAMILY
from pipeline import __main__ as command_line
from pipeline.follow import STAGES, follow, trained_as
from pipeline.recipe import FOLDER, Recipe, load_recipe, recipe_of
from tests.conftest import Small


@pytest.fixture
def images(small: Small) -> Artifact:
    return Artifact(small.images, {"content": "images", "metrics": {"trainable": True}})


def loaded(tmp_path: Path, text: str = "", **changes: Any) -> Recipe:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return load_recipe("resnet20", file, {key.replace("__", "."): value for key, value in changes.items()}, ["onnxruntime"])


def test_a_recipe_gets_what_it_does_not_say(images: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = loaded(tmp_path, "[distill]\nlr = 0.02\n[transfer]\nepochs = 7\n", distill__temperature=3)
    known = Artifact(Path("nowhere"), {"metrics": {"initial_lr": 0.001}})
    found = follow(recipe, Stages(tmp_path), images, ("distill",), known)
    assert (found.distill.lr, found.distill.temperature, found.distill.alpha) == (0.02, 3, 0.9)
    assert (found.distill.epochs, found.distill.batch_size) == (60, 16)
    assert found.distill.augment == Augment(flip=True, shift=4, min_area=None)
    assert (found.transfer.epochs, found.transfer.lr, found.transfer.batch_size) == (7, 0.001, 16)
    assert (found.quantize_aware.epochs, found.quantize_aware.lr, found.quantize_aware.batch_size) == (0, 5e-4, 16)
    line = "schedule: 600 grey images of 32x32, 10 classes, no GPU: 60 epochs of 37 steps, batch 16, peak rate 0.02, "
    assert line + "shifts of up to 4 pixels and flips" in capsys.readouterr().out
    again = follow(found, Stages(tmp_path), images, ("distill",), known)
    assert again == found


def test_the_line_is_printed_also_where_the_schedule_is_cached_and_is_a_note_of_a_stage(
    images: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Stages(tmp_path)
    for _ in range(2):
        follow(loaded(tmp_path), step, images, ("distill",))
    assert capsys.readouterr().out.count("· schedule: ") == 2
    (stage,) = step.used
    assert [note.split(":")[0] for note in stage.metrics["notes"]] == ["schedule"]


@pytest.mark.parametrize("stage", STAGES)
def test_cache_keys_hold_the_derived_values(images: Artifact, tmp_path: Path, stage: Any) -> None:
    """The key of a training is the same whether a value was derived or said, and another for another value."""
    step = Stages(tmp_path)
    free = getattr(follow(loaded(tmp_path), step, images, ("distill",)), stage)
    values = {key: free.model_dump(mode="json")[key] for key in ("epochs", "lr", "batch_size", "augment")}
    assert None not in values.values()
    said = loaded(
        tmp_path, **{f"{stage}.{key}": value for key, value in values.items()}, **{f"{stage}.min_steps": free.min_steps}
    )
    said = getattr(follow(said, step, images, ("distill",)), stage)
    other = getattr(follow(loaded(tmp_path, **{f"{stage}.batch_size": 20}), step, images, ("distill",)), stage)
    keys = [step.folder(distill, config, None, {}) for config in (free, said, other)]
    assert keys[0] == keys[1] != keys[2]


def test_nothing_follows_where_nothing_is_trained(images: Artifact, tmp_path: Path) -> None:
    def step(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be derived")

    quantized = loaded(tmp_path, finetune=False, checkpoint="mine.pth")
    assert follow(quantized, step, images, ("distill",)) is quantized  # type: ignore[arg-type]
    untrainable = Artifact(images.path, {"metrics": {"trainable": False}})
    recipe = loaded(tmp_path)
    assert follow(recipe, step, untrainable, ("distill",)) is recipe  # type: ignore[arg-type]


def test_the_students_of_a_sweep_are_trained_alike(images: Artifact, tmp_path: Path) -> None:
    recipe, variant = loaded(tmp_path), loaded(tmp_path, prune__pruning_ratio=0.7)
    followed = trained_as(follow(recipe, Stages(tmp_path), images, ("distill",)), variant)
    assert (followed.prune.pruning_ratio, followed.distill.epochs) == (0.7, 60)
    assert followed == follow(variant, Stages(tmp_path), images, ("distill",))


@pytest.mark.parametrize("command", ["compress", "train", "compare"])
@pytest.mark.parametrize("flag", [[], ["--flip"], ["--no-flip"]])
def test_no_flip_is_a_flag_of_every_command_that_trains(
    command: str, flag: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def stop(recipe: Recipe, *_: object, **__: object) -> None:
        seen.append(recipe.flip)
        raise ValueError("enough")

    for place in ("pipeline.baseline.images_of", "pipeline.compare.images_of"):
        monkeypatch.setattr(place, stop)
    models = "resnet18,resnet34" if command == "compare" else "resnet18"
    monkeypatch.setattr(sys, "argv", ["respress", command, models, "--out", str(tmp_path), *flag])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 2 and set(seen) == {flag != ["--no-flip"]}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_do_not_say_what_follows_the_images(path: Path) -> None:
    model = next((part for part in path.stem.split("-") if part in FAMILY), "resnet20")
    recipe = load_recipe(model, path, {}, ["onnxruntime"])
    assert recipe.levels.on and "pruning_ratio" not in recipe.prune.model_fields_set
    assert not any(getattr(recipe, name).model_fields_set for name in STAGES if name != "train")


@pytest.mark.parametrize(
    ("model", "data", "file"),
    [
        ("resnet101", "fashion-mnist", "resnet101-fashion-mnist"),
        ("resnet101", "cifar10", "resnet101"),
        ("resnet101", "photos/fashion-mnist", "resnet101"),
        ("resnet18", "cifar10", "default"),
        ("my.networks:build", "fashion-mnist", "default"),
    ],
)
def test_only_its_own_data_set_is_trained_as_the_demo(model: str, data: str, file: str) -> None:
    assert recipe_of(model, data) == FOLDER / f"{file}.toml"


def test_a_model_without_a_recipe_of_its_own_is_trained_as_the_images_need(images: Artifact, tmp_path: Path) -> None:
    recipe = follow(load_recipe("resnet20", None, {}, ["onnxruntime"]), Stages(tmp_path), images, ("train",))
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch_size, recipe.train.grow_at) == (60, 0.05, 16, 0)
    assert recipe.train.augment == Augment(flip=True, shift=4, min_area=None)


def test_an_index_of_real_images_has_the_facts(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    index(Data(train_limit=100, test_limit=20, input_size=96, resize=96), tmp_path / "index")
    images = Artifact(tmp_path / "index", {"content": "other", "metrics": {"trainable": True}})
    step = Stages(tmp_path / "stages")
    found = follow(loaded(tmp_path), step, images, ("distill",))
    assert found.distill.augment == Augment(flip=True, shift=0)
    manifest = json.loads((step.used[0].path / "manifest.json").read_text())
    assert manifest["stage"] == f"{derive_schedule.__module__}.derive_schedule"
    assert "random resized crops and flips" in manifest["metrics"]["notes"][0]
