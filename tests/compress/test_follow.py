"""How long, how fast and on what the networks are trained follows the images; what the recipe or the user says wins."""

import json
from pathlib import Path
from typing import Any

import pytest

from compress.distill import Distill
from compress.follow import EPOCHS, STEPS, Follow, derive_schedule
from data.augment import Augment

CROPS = {"flip": True, "shift": 0, "min_area": 0.35}
SHIFTS = {"flip": True, "shift": 4, "min_area": None}


def dataset(images: int, shape: tuple[int, int, int], classes: int, resize: str) -> dict[str, Any]:
    return {
        "splits": {"train": images, "val": 1, "test": 1},
        "input_shape": list(shape),
        "classes": [str(i) for i in range(classes)],
        "preprocess": {"resize": resize},
    }


IMAGENET = dataset(1_281_167, (3, 224, 224), 1000, "shorter")
CIFAR = dataset(47_500, (3, 32, 32), 10, "pad")
FASHION = dataset(60_000, (1, 32, 32), 10, "pad")
PHOTOGRAPHS = dataset(1300, (1, 224, 224), 6, "shorter")
FEW = dataset(100, (3, 224, 224), 2, "shorter")
THUMBNAILS = dataset(8000, (3, 32, 32), 4, "shorter")
ALL = {
    "imagenet": IMAGENET,
    "cifar": CIFAR,
    "fashion": FASHION,
    "photographs": PHOTOGRAPHS,
    "few": FEW,
    "thumbnails": THUMBNAILS,
}


def followed(out: Path, images: dict[str, Any], given: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    (out / "dataset.json").write_text(json.dumps(images))
    return derive_schedule(Follow(given=given or {}, **config), out, images=out)


@pytest.mark.parametrize(
    ("images", "gpu", "epochs", "batch", "lr", "augment"),
    [
        (IMAGENET, True, 2, 128, 0.02, CROPS),
        (IMAGENET, False, 2, 128, 0.02, CROPS),
        (CIFAR, False, 10, 128, 0.02, SHIFTS),
        (CIFAR, True, 10, 128, 0.02, SHIFTS),
        (FASHION, False, 8, 128, 0.02, SHIFTS),
        (PHOTOGRAPHS, False, 60, 32, 0.01, CROPS),
        (FEW, False, 60, 16, 0.01, CROPS),
        (THUMBNAILS, False, 60, 128, 0.02, SHIFTS),
        (dataset(20_000, (3, 224, 224), 5, "squash"), True, 25, 128, 0.02, CROPS),
        (dataset(20_000, (3, 224, 224), 5, "squash"), False, 5, 64, 0.02, CROPS),
        (dataset(20_000, (3, 96, 96), 5, "pad"), True, 25, 128, 0.02, {"flip": True, "shift": 12, "min_area": None}),
    ],
)
def test_the_training_follows_the_images(
    tmp_path: Path, images: dict[str, Any], gpu: bool, epochs: int, batch: int, lr: float, augment: dict[str, Any]
) -> None:
    found = followed(tmp_path, images, gpu=gpu)
    expected = {"epochs": epochs, "min_steps": 300, "batch_size": batch, "lr": lr, "augment": augment}
    assert found["distill"] == expected
    assert found["transfer"] == {key: value for key, value in expected.items() if key != "min_steps"} | {"lr": lr / 2}
    assert found["quantize_aware"] == {"batch_size": batch, "augment": augment}
    Distill(**found["distill"])


@pytest.mark.parametrize("count", [100, 399, 1300, 2999, 4999, 5000, 12_345, 47_500, 200_000, 1_281_167])
@pytest.mark.parametrize("gpu", [True, False])
def test_there_are_enough_steps_as_far_as_the_smallest_batch_allows(tmp_path: Path, count: int, gpu: bool) -> None:
    found = followed(tmp_path, dataset(count, (3, 224, 224), 2, "shorter"), gpu=gpu)["distill"]
    assert EPOCHS[0] <= found["epochs"] <= EPOCHS[1]
    assert found["batch_size"] in (16, 32, 64, 128) and (found["batch_size"] == 16 or found["batch_size"] <= count // 8)
    assert found["batch_size"] == 16 or count * found["epochs"] // found["batch_size"] >= STEPS


def test_a_student_of_a_baseline_that_is_trained_here_gets_its_augmentation_and_no_more_epochs(tmp_path: Path) -> None:
    plain = {"flip": False, "shift": 0}
    found = followed(tmp_path, FASHION, {"train": {"epochs": 3, "augment": plain}}, described=("train", "distill"))
    assert found["train"] == {"epochs": 3, "batch_size": 128, "lr": 0.1, "augment": plain}
    assert (found["distill"]["epochs"], found["distill"]["augment"]) == (3, plain)
    alone = followed(tmp_path, FASHION, described=("train", "distill"))
    assert (alone["train"]["epochs"], alone["distill"]["epochs"]) == (25, 8)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "given", [{"epochs": 2}, {"lr": 0.2}, {"batch_size": 48}, {"augment": None}, {"augment": {"shift": 1}}, {"minutes": 3.0}]
)
def test_what_the_recipe_or_the_user_says_wins(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    free = followed(tmp_path, ALL[name])["distill"]
    found = followed(tmp_path, ALL[name], {"distill": given}, rate=0.001)["distill"]
    without = {"min_steps": 300} if "epochs" in given else {}  # the user's epochs are exactly so many
    assert found == {key: value for key, value in free.items() if key not in without} | {"lr": 0.001} | given


@pytest.mark.parametrize("given", [{}, {"augment": {"flip": True, "shift": 1}}, {"augment": {"shift": 1}}])
def test_no_flip_counts_for_every_training_stage(tmp_path: Path, given: dict[str, Any]) -> None:
    stages = ("train", "transfer", "distill", "quantize_aware")
    for name, images in ALL.items():
        found = followed(tmp_path, images, dict.fromkeys(stages, given), flip=False)
        assert not any(Augment(**found[stage]["augment"]).flip for stage in stages), name
    assert followed(tmp_path, FEW, {"train": {"augment": None}}, flip=False)["train"]["augment"] is None


@pytest.mark.parametrize(("rate", "expected"), [(None, 0.02), (0.1, 0.02), (0.003, 0.003)])
def test_the_rate_is_never_above_that_of_the_checkpoints_own_training(
    tmp_path: Path, rate: float | None, expected: float
) -> None:
    found = followed(tmp_path, CIFAR, rate=rate)
    assert found["distill"]["lr"] == expected and found["transfer"]["lr"] == min(expected, 0.01)
    assert ("(the checkpoint's initial rate)" in found["notes"][0]) == (expected == rate)


@pytest.mark.parametrize(
    ("images", "given", "config", "line"),
    [
        (
            PHOTOGRAPHS, {}, {},
            "schedule: 1,300 grey images of 224x224, 6 classes, no GPU: 60 epochs of 40 steps, batch 32, peak rate 0.01, "
            "random resized crops and flips",
        ),
        (
            CIFAR, {}, {"gpu": True, "flip": False, "rate": 0.002},
            "schedule: 47,500 images of 32x32, 10 classes, a GPU: 10 epochs of 371 steps, batch 128, "
            "peak rate 0.002 (the checkpoint's initial rate), shifts of up to 4 pixels",
        ),
        (
            FEW, {"distill": {"minutes": 20, "augment": None}}, {},
            "schedule: 100 images of 224x224, 2 classes, no GPU: as many steps as fit into 20 minutes, batch 16, "
            "peak rate 0.01, no augmentation",
        ),
        (
            FASHION, {"train": {"epochs": 3, "lr": 0.05, "batch_size": 64, "augment": {"flip": False, "shift": 0}}},
            {"described": ("train",)},
            "schedule of the baseline: 60,000 grey images of 32x32, 10 classes, no GPU: 3 epochs of 937 steps, batch 64, "
            "peak rate 0.05, no augmentation",
        ),
        (
            CIFAR, {"distill": {"policy": "randaugment", "policy_magnitude": 7.0, "mixup": 0.2, "mix_probability": 0.5}}, {},
            "schedule: 47,500 images of 32x32, 10 classes, no GPU: 10 epochs of 371 steps, batch 128, peak rate 0.02, "
            "shifts of up to 4 pixels, flips, RandAugment (2 of magnitude 7) and mixup (0.2, 50% of the batches)",
        ),
        (
            FEW,
            {"distill": {"policy": "autoaugment", "erasing": 0.25, "cutmix": 1, "sizes": [128, 224], "stochastic_depth": 0.1}},
            {},
            "schedule: 100 images of 224x224, 2 classes, no GPU: 60 epochs of 6 steps, batch 16, peak rate 0.01, "
            "random resized crops, flips, AutoAugment (ImageNet's policy), random erasing (25% of the images), cutmix (1), "
            "sides of 128 and 224 pixels and stochastic depth (0.1)",
        ),
    ],
)  # fmt: skip
def test_one_line_says_what_was_derived(
    tmp_path: Path, images: dict[str, Any], given: dict[str, Any], config: dict[str, Any], line: str
) -> None:
    assert followed(tmp_path, images, given, **config)["notes"] == [line]


@pytest.mark.parametrize("there", (False, True))
def test_a_gpu_of_apple_that_is_not_used_is_noted(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: there)
    notes = followed(tmp_path, CIFAR, described=())["notes"]
    assert bool(notes) == there and all("Apple's GPU (MPS) is not used" in note for note in notes)
