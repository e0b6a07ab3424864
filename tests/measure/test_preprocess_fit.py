"""A preprocessing that is not the one of training is found by the first batch norm, and the right flags are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from data import preprocess
from data.augment import Augment, augmented
from data.filenames import Names
from data.loader import Split
from measure.preprocess_fit import (
    LIMIT,
    Fit,
    Tried,
    by_labels,
    by_rotation,
    by_statistics,
    check_preprocess,
    lost_overlap,
    overlaps,
)
from measure.preprocessings import flags, inputs, other_values
from models.checkpoint import save
from models.resnet import ResNet, family_spec
from tests.export.photographs import photograph

BASE = {
    "channels": 3, "input_size": 32, "resize": "shorter", "resize_size": 36, "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
}  # fmt: skip
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
UNIT = {"mean": [0.0] * 3, "std": [1.0] * 3}
BYTES = {"mean": [0.0] * 3, "std": [0.00392157] * 3}
CIFAR = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
BGR = {"mean": [0.406, 0.456, 0.485], "std": [0.225, 0.224, 0.229], "channel_order": "bgr"}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Photographs with a reddish tint, every second one brighter."""
    found = []
    for i in range(96):
        pixels = np.asarray(photograph(i, (60, 50))).astype(float) * (1.0, 0.8, 0.6)
        found.append(Image.fromarray(np.clip(pixels * 0.7 + (60, 10, 0) if i % 2 else pixels, 0, 255).astype(np.uint8)))
    return found


def network(seed: int = 0, channels: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(channels, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(16, 2))


def labels_of(pictures: list[Image.Image]) -> Tensor:
    return torch.arange(len(pictures)) % 2


def trained(pictures: list[Image.Image], spec: dict[str, Any], seed: int = 0, augment: Augment | None = None) -> nn.Module:
    """A network that saw batches of `pictures`, prepared by `spec`, for 60 steps."""
    model, rng = network(seed, spec["channels"]), np.random.default_rng(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    y, plain = labels_of(pictures), inputs(pictures, spec)
    for _ in range(60):
        chosen = rng.choice(len(pictures), 16, replace=False)
        x = plain[chosen]
        if augment is not None:
            pixels = np.stack([augmented(pictures[i], spec, augment, rng) for i in chosen])
            x = torch.from_numpy(preprocess.normalise(pixels, spec))
        loss = nn.functional.cross_entropy(model(x), y[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("values", "augment", "seed"),
    [
        ({}, None, 0),
        ({}, Augment(), 1),
        ({}, Augment(min_area=0.08), 2),
        (HALF, Augment(), 3),
        (UNIT, None, 4),
        (BGR, Augment(), 5),
    ],
)
def test_the_preprocessing_of_training_stays_unmentioned(
    pictures: list[Image.Image], values: dict[str, Any], augment: Augment | None, seed: int
) -> None:
    spec = {**BASE, **values}
    lost = lost_overlap(trained(pictures[:64], spec, seed, augment), inputs(pictures[64:], spec))
    assert lost is not None
    assert lost < LIMIT


@pytest.mark.parametrize(
    ("training", "used", "wanted"),
    [
        (UNIT, {}, "--mean 0 --std 1"),
        ({}, UNIT, "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (HALF, {}, "--mean 0.5 --std 0.5"),
        (CIFAR, HALF, "--mean 0.4914,0.4822,0.4465 --std 0.247,0.2435,0.2616"),
        (BYTES, UNIT, "--std 0.00392157"),
        (UNIT, BYTES, "--std 1"),
        (BGR, {}, "--mean 0.406,0.456,0.485 --std 0.225,0.224,0.229 --channel-order bgr"),
        ({**UNIT, "channel_order": "bgr"}, UNIT, "--channel-order bgr"),
        (UNIT, {**UNIT, "channel_order": "bgr"}, "--channel-order rgb"),
        ({**BYTES, "channel_order": "bgr"}, {}, "--mean 0 --std 0.00392157 --channel-order bgr"),
    ],
)
def test_the_preprocessing_of_training_is_named(
    pictures: list[Image.Image], training: dict[str, Any], used: dict[str, Any], wanted: str
) -> None:
    model, spec = trained(pictures, {**BASE, **training}), {**BASE, **used}
    tried = Tried(model, pictures, torch.full((len(pictures),), -1))
    lost = tried.lost(spec)
    assert lost is not None
    assert lost > LIMIT
    advice = by_statistics(tried, spec, lost)
    assert advice is not None
    assert advice.startswith(f"{wanted} fits its first batch norm far better (overlap ")
    assert float(advice.split("overlap ")[1].split(" %")[0]) > 98


def test_labels_that_are_right_speak_for_the_preprocessing(pictures: list[Image.Image]) -> None:
    model, spec = trained(pictures, {**BASE, **HALF}), {**BASE, **UNIT}
    tried = Tried(model, pictures, torch.full((len(pictures),), -1))
    lost = tried.lost(spec)
    assert lost is not None
    assert by_statistics(tried, spec, lost) is not None
    as_predicted = model(inputs(pictures, spec)).argmax(1)
    assert by_statistics(Tried(model, pictures, as_predicted), spec, lost) is None


def test_without_statistics_the_labels_decide() -> None:
    """A network that calls pixels above 127 of 255 bright, and still has the statistics of a new batch norm."""
    model = network().eval()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0, 1, 1] = 1
        model[5].weight.zero_()
        model[5].weight[1, 0], model[5].bias[:] = 1, torch.tensor([127.0, 0.0])
    pictures = [Image.new("RGB", (32, 32), (value, 0, 0)) for value in range(8, 248, 8)]
    tried = Tried(model, pictures, torch.tensor([int(value > 127) for value in range(8, 248, 8)]))
    spec = {**BASE, **UNIT, "resize": "squash"}
    assert tried.lost(spec) is None
    assert by_labels(tried, spec) == "with --std 0.00392157, 30 instead of 15 of 30 training images are right"


def test_the_stage_writes_what_it_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = family_spec("resnet18", num_classes=2, in_channels=1)
    save(ResNet(spec).eval(), spec, tmp_path)  # a new network has no statistics
    dataset = {"kind": "array", "name": "mine", "preprocess": {**BASE, "channels": 1, "mean": [0.5], "std": [0.5]}}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    np.save(tmp_path / "train.images.npy", np.zeros((4, 32, 32, 1), np.uint8))
    np.save(tmp_path / "train.labels.npy", np.full(4, -1))
    assert check_preprocess(Fit(images=4), tmp_path, model=tmp_path, images=tmp_path) == {"lost_overlap": None, "notes": []}
    assert json.loads((tmp_path / "fit.json").read_text()) == {"advice": None}


def test_the_overlap_is_that_of_two_normal_distributions() -> None:
    x = torch.linspace(-60, 60, 120_001, dtype=torch.float64)
    for mean, var, other_mean, other_var in ((0, 1, 0, 1), (0, 1, 2, 1), (1, 4, -1, 0.25), (0, 1, 0, 100)):
        densities = [
            torch.exp(-((x - m) ** 2) / (2 * v)) / (2 * torch.pi * v) ** 0.5 for m, v in ((mean, var), (other_mean, other_var))
        ]
        expected = torch.trapezoid((densities[0] * densities[1]).sqrt(), x)
        found = overlaps(*(torch.tensor([float(n)]) for n in (mean, var, other_mean, other_var)))
        assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_bgr_is_what_opencv_reads() -> None:
    batch = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = preprocess.normalise(batch[..., ::-1], {**BASE, **UNIT})
    np.testing.assert_array_equal(preprocess.normalise(batch, {**BASE, **UNIT, "channel_order": "bgr"}), expected)


def test_grey_images_have_no_order_of_colours(pictures: list[Image.Image]) -> None:
    spec = {**BASE, "channels": 1, "mean": [0.0], "std": [1.0]}
    grey = [picture.convert("L") for picture in pictures[:4]]
    found = other_values(grey, spec)
    assert all(len(one["mean"]) == len(one["std"]) == 1 and "channel_order" not in one for one in found)
    assert flags(found[1], spec) == "--mean 0.449 --std 0.226"


@pytest.mark.parametrize(("used", "wanted"), [("ignore", "apply"), ("apply", "ignore")])
def test_the_other_treatment_of_exif_is_named(tmp_path: Path, used: str, wanted: str) -> None:
    """Bars from left to right in one class, from top to bottom in the other; one of them was stored turned."""
    names, labels = [], np.arange(32) % 2
    bars = np.kron(np.arange(8) % 2, np.ones(4)).astype(np.uint8) * 200
    for i, label in enumerate(labels):
        pixels = np.repeat(np.broadcast_to(bars if label else bars[:, None], (32, 32))[..., None], 3, axis=2).copy()
        pixels[0, 0] = i
        exif = Image.Exif()
        exif[preprocess.ORIENTATION] = 6
        Image.fromarray(pixels).save(tmp_path / f"{i}.png", exif=exif)
        names.append(f"{i}.png".encode())
    Names.of(names).save(tmp_path, "train")
    np.save(tmp_path / "train.labels.npy", labels)
    spec = {**BASE, "exif": used}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"kind": "folder", "name": "a", "root": str(tmp_path), "preprocess": spec})
    )
    split = Split(tmp_path, "train")
    bars_network = Bars(turned=used == "ignore")
    tried = Tried(bars_network, [split.image(i) for i in range(32)], torch.from_numpy(labels))
    message = f"with --exif {wanted}, 32 instead of 0 of 32 training images are right"
    assert by_rotation(tried, split, range(32)) == message
    right = Tried(Bars(turned=used != "ignore"), tried.pictures, tried.labels)
    assert by_rotation(right, split, range(32)) is None


class Bars(nn.Module):
    """Says 1 for bars that follow one another along a row of pixels, 0 for the others; `turned` the other way round."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        along = x.diff(dim=3).abs().mean((1, 2, 3)) - x.diff(dim=2).abs().mean((1, 2, 3))
        return torch.stack([torch.zeros_like(along), -along if self.turned else along], 1)
