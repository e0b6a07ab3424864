"""Every recipe trains: its own settings, on a handful of images of its size, for two steps."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.train import train
from data.index import Data, index
from data.loader import Split
from models.resnet import FAMILY, family_spec
from pipeline.recipe import FOLDER, Recipe, load_recipe

RECIPES = sorted(FOLDER.glob("*.toml"))
TINY = {"arch": "resnet20", "stem": None, "grow_at": 0.0, "epochs": 1, "batch_size": 4}


def recipe_at(path: Path) -> Recipe:
    """The recipe in `path`, for the network that its header names."""
    model = next((word.removeprefix("MODEL=") for word in path.read_text().split() if word.startswith("MODEL=")), "")
    return load_recipe(model if model in FAMILY else "resnet20", path, {}, ["onnxruntime"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photographs of noise with two classes, and where to index them."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(14):
        file = folder / ("train" if i < 10 else "test") / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((240, 232)).save(file)
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_two_steps_of_its_own_training(images: Path, tmp_path: Path, path: Path) -> None:
    """With a small network in place of its own."""
    recipe = recipe_at(path)
    side = recipe.data.input_size or 32
    (tmp_path / "index").mkdir()
    (tmp_path / "out").mkdir()
    index(Data(name=str(images), input_size=side), tmp_path / "index")
    assert len(Split(tmp_path / "index", "train")) == 8
    metrics = train(recipe.train.model_copy(update=TINY), tmp_path / "out", images=tmp_path / "index")
    assert metrics["epochs"] == 1 and math.isfinite(metrics["history"][0]["loss"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_network_of_a_recipe_exists_and_a_training_states_what_to_expect(path: Path) -> None:
    recipe, header = recipe_at(path), path.read_text()
    family_spec(recipe.train.arch, stem=recipe.train.stem, shortcut=recipe.train.shortcut)
    if path.stem.startswith(("cifar10", "imagenet")):
        assert ("Expected:" in header or "They report" in header) and "Time:" in header
        assert "arXiv:" in header or "https://" in header
        assert f"MODEL={recipe.train.arch} " in header and f"RECIPE=recipes/{path.name}" in header
        assert any(words in header for words in ("ot run", "never trained", "easured"))


@pytest.mark.parametrize("name", ["imagenet-resnet50", "imagenet-resnet101"])
def test_the_imagenet_recipes_grow_their_images_to_full_size(name: str) -> None:
    recipe = recipe_at(FOLDER / f"{name}.toml")
    assert list(recipe.train.sizes) == sorted(recipe.train.sizes) and recipe.train.sizes[-1] == recipe.data.input_size == 224
    assert recipe.train.mixup and recipe.train.label_smoothing == 0.1
