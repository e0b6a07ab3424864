"""The stem: what is said about it for small images, and that a checkpoint's own is read from its weights."""

from pathlib import Path

import pytest
import torch

from models.checkpoint import Load, load_checkpoint
from models.resnet import ResNet, Spec, Stem, family_spec
from models.stem import stem_notes
from pipeline.recipe import load_recipe


@pytest.mark.parametrize(
    ("stem", "side", "said"),
    [
        (
            "imagenet",
            32,
            ["'imagenet' (7x7, stride 2, max pooling): resnet18 has 37 M MACs", "555 M MACs): pass --stem small to"],
        ),
        ("small", 32, ["'small' (3x3, stride 1, no pooling): resnet18 has 555 M MACs. This is the stem of the literature"]),
        ("imagenet", 64, ["for images of 64x64 pixels"]),
        ("imagenet", 65, []),
    ],
)
def test_one_line_says_which_stem_was_taken_for_small_images(stem: Stem, side: int, said: list[str]) -> None:
    notes = stem_notes(family_spec("resnet18", num_classes=10, stem=stem), (3, side, side))
    assert len(notes) == (1 if said else 0)
    assert all(part in notes[0] for part in said)


NARROW = Spec(arch="resnet18", block="basic", num_classes=2, stem_width=4, widths=(((4, 4),) * 2,) * 4)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_a_flag_that_contradicts_the_checkpoint_is_refused(stem: Stem, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(ResNet(NARROW.model_copy(update={"stem": stem})).state_dict(), path)
    assert load_checkpoint(Load(arch="resnet18", stem=stem), tmp_path, checkpoint=path)["spec"]["stem"] == stem
    other: Stem = "small" if stem == "imagenet" else "imagenet"
    with pytest.raises(ValueError, match=f"has the stem '{stem}' and --stem says {other}; leave out --stem"):
        load_checkpoint(Load(arch="resnet18", stem=other), tmp_path, checkpoint=path)


@pytest.mark.parametrize("key", ["load.stem", "train.stem"])
def test_a_network_of_the_users_own_has_its_own_stem(key: str) -> None:
    with pytest.raises(ValueError, match="leave out --stem"):
        load_recipe("tests.models.test_custom:Mobile", None, {key: "small"}, ["onnxruntime"])
