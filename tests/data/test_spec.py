"""Who decides how images are prepared: the user, then the checkpoint, then the data set or the network's family."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.index import Data, index
from tests.data.conftest import Tree
from tests.data.test_folder import network

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def prepared(root: Path, out: Path, folder: Path | None = None, **said: Any) -> dict[str, Any]:
    index(Data(name=str(root), **said), out, network=folder)
    spec: dict[str, Any] = json.loads((out / "dataset.json").read_text())["preprocess"]
    return spec


@pytest.fixture
def root(tree: Tree) -> Path:
    return tree({"train/a": 3, "val/a": 2})


def shorter(side: int, pixels: int, how: str = "bilinear", channels: int = 3) -> dict[str, Any]:
    return {"channels": channels, "input_size": side, "resize": "shorter", "resize_size": pixels, "interpolation": how}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, shorter(224, 256) | IMAGENET),
        ({"input_size": 48}, shorter(48, 54) | IMAGENET),
        ({"input_size": 224, "crop_pct": 0.95}, shorter(224, 235) | IMAGENET),
        ({"resize": 232}, shorter(224, 232) | IMAGENET),
        ({"resize": "squash", "interpolation": "lanczos"},
         {"channels": 3, "input_size": 224, "resize": "squash", "interpolation": "lanczos"} | IMAGENET),
        ({"resize": "pad", "input_size": 32}, {"channels": 3, "input_size": 32, "resize": "pad"} | IMAGENET),
        ({"channels": 1}, shorter(224, 256, channels=1) | {"mean": [0.449], "std": [0.226]}),
        ({"mean": [0.5], "std": [0.25]}, shorter(224, 256) | {"mean": [0.5] * 3, "std": [0.25] * 3}),
    ],
)  # fmt: skip
def test_what_the_user_says(root: Path, out: Path, said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert prepared(root, out, **said) == expected | {"exif": "apply"}


UNTURNED = {"exif": "ignore"}  # as the loaders of people's checkpoints
GIVEN = {"input_size": 288, "crop_pct": 1.0, "interpolation": "bicubic"}
FAMILY = {"input_size": 224, "resize": 232, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("known", "said", "expected"),
    [
        ({"family": FAMILY}, {}, shorter(224, 232)),
        ({"given": GIVEN, "family": FAMILY}, {}, shorter(288, 288, "bicubic")),
        ({"given": GIVEN, "family": FAMILY}, {"input_size": 160, "crop_pct": 0.9}, shorter(160, 177, "bicubic")),
        ({"given": GIVEN, "family": FAMILY}, {"resize": 320}, shorter(288, 320, "bicubic")),
        ({"family": FAMILY}, {"input_size": 224}, shorter(224, 232)),
        ({"family": {"resize": 232, "mean": [0.5], "std": [0.5]}}, {"input_size": 224}, shorter(224, 232)),
        ({"family": FAMILY}, {"input_size": 160}, shorter(160, 182)),  # 232 belongs to 224
        ({"family": FAMILY}, {"crop_pct": 0.875}, shorter(224, 256)),
        ({"family": {**FAMILY, "resize": "squash"}}, {"input_size": 96},
         {"channels": 3, "input_size": 96, "resize": "squash", "interpolation": "bilinear"}),
    ],
)  # fmt: skip
def test_who_is_believed(
    root: Path, out: Path, tmp_path: Path, known: dict[str, Any], said: dict[str, Any], expected: dict[str, Any]
) -> None:
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert prepared(root, out, network(tmp_path / "n", 1, **known), **said) == expected | half | UNTURNED


def test_a_known_set_keeps_its_own_unless_told(out: Path, tmp_path: Path) -> None:
    given = network(tmp_path / "n", 10, 3, given={"std": [0.5]}, family=FAMILY)
    own = {"channels": 3, "input_size": 32, "resize": "pad", "mean": [0.286] * 3, "std": [0.5] * 3} | UNTURNED
    assert prepared(Path("fashion-mnist"), out, given, train_limit=40, test_limit=4) == own
    message = prepared(Path("fashion-mnist"), out, input_size=16, crop_pct=1.0, mean=[0.25], train_limit=40, test_limit=4)
    assert message == shorter(16, 16, channels=1) | {"mean": [0.25], "std": [0.353], "exif": "apply"}


def test_channels_follow_the_network(root: Path, out: Path, tmp_path: Path) -> None:
    grey = network(tmp_path / "grey", 1, 1)
    assert prepared(root, out, grey) == shorter(224, 256, channels=1) | {"mean": [0.449], "std": [0.226]} | UNTURNED
    with pytest.raises(ValueError, match="channels = 3, but the checkpoint takes 1"):
        prepared(root, out, grey, channels=3)
    with pytest.raises(ValueError, match=r"takes 4 input channels; expected 1 \(grey\) or 3"):
        prepared(root, out, network(tmp_path / "four", 1, 4))


def test_a_checkpoint_that_says_nonsense_is_refused_in_one_line(root: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the checkpoint's preprocessing is unusable: input_size = 4: [^\n]*$"):
        prepared(root, out, network(tmp_path / "n", 1, given={"input_size": 4}))
    with pytest.raises(ValueError, match="resize 256 is smaller than input_size 288"):
        prepared(
            root, out, network(tmp_path / "m", 1, given={"resize": 256}, family={"resize": 256}), resize=256, input_size=288
        )


@pytest.mark.parametrize(
    "said",
    [
        {"input_size": 7}, {"input_size": 4096}, {"crop_pct": 0}, {"crop_pct": 1.1}, {"crop_pct": float("nan")},
        {"std": [0.0]}, {"std": [-1.0]}, {"mean": [float("inf")]}, {"mean": [0.5, 0.5]}, {"mean": []},
        {"mean": [0.5] * 3, "channels": 1}, {"channels": 2}, {"resize": 256, "crop_pct": 0.9},
        {"resize": 256, "crop_pct": 1.0}, {"resize": "squash", "crop_pct": 0.9}, {"resize": 100, "input_size": 224},
        {"resize": "stretch"}, {"resize": True}, {"resize": 0}, {"interpolation": "area"},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_make_no_sense(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Data(**said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"input_size": 96, "resize": 96, "crop_pct": 1.0}, shorter(96, 96)),
        ({"input_size": 224, "resize": 256, "crop_pct": 0.875}, shorter(224, 256)),
        ({"resize": 256, "crop_pct": 0.875}, shorter(224, 256)),
        ({"input_size": 224, "resize": 232, "crop_pct": 0.966}, shorter(224, 232)),  # 231.9
        ({"input_size": 32, "resize": "squash", "crop_pct": 1.0},
         {"channels": 3, "input_size": 32, "resize": "squash", "interpolation": "bilinear"}),
        ({"input_size": 32, "resize": "pad", "crop_pct": 1.0}, {"channels": 3, "input_size": 32, "resize": "pad"}),
    ],
)  # fmt: skip
def test_words_that_agree(root: Path, out: Path, said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert prepared(root, out, **said) == expected | IMAGENET | {"exif": "apply"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"input_size": 96, "resize": 128, "crop_pct": 1.0},
         "thing and disagree: an input size of 96 / 1.0 is a resize of 96; pass only one of them"),
        ({"input_size": 224, "resize": 256, "crop_pct": 0.95},
         "thing and disagree: an input size of 224 / 0.95 is a resize of 235; pass only one of them"),
        ({"input_size": 224, "resize": "squash", "crop_pct": 0.9},
         "resize squash and crop_pct 0.9 set the same thing and disagree"),
    ],
)  # fmt: skip
def test_words_that_disagree(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Data(**said)


def test_words_that_disagree_once_the_input_size_is_known(root: Path, out: Path, tmp_path: Path) -> None:
    """256 / 0.875 is 224, and the checkpoint has 160."""
    with pytest.raises(ValueError, match=r"thing and disagree: an input size of 160 / 0\.875 is a resize of 182"):
        prepared(root, out, network(tmp_path / "n", 1, given={"input_size": 160}), resize=256, crop_pct=0.875)
