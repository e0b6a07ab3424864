"""images -> how networks are trained on them: epochs, learning rate, batch size and augmentation. No files.

Measured on 47,500 images of CIFAR-10, with half the MACs: a resnet56 lost 0.2 points after 10 epochs, a resnet20 about 2 after
2 epochs and 1.3 after 5 (benchmarks/RESULTS.md). So about 500,000 images are seen, in more epochs where there are fewer.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field

from compress.device import unused_gpu
from compress.schedule import Schedule
from core.config import Config
from core.text import joined
from data.augment import Augment

Training = Literal["train", "transfer", "distill", "quantize_aware"]
STAGES: tuple[Training, ...] = get_args(Training)
Described = tuple[Literal["train", "transfer", "distill"], ...]

SEEN = 500_000  # images in the whole training
SEEN_ON_CPU = 100_000  # where there is no GPU and the images are not thumbnails: a resnet18 trained on 19 of 224x224 a second
FROM_NOTHING = 3  # times as many
EPOCHS = (2, 60)
STEPS = 1500  # at least, as far as the smallest batch allows
BATCH = (16, 128)
EIGHTH = 8
FEW = 5000  # images; below, half the rate
RATES = {"train": 0.1, "transfer": 0.01, "distill": 0.02}
SHORT = 300  # steps: the least for a network that was just pruned, also where the search trains it for one epoch only
POLICIES = {
    "autoaugment": "AutoAugment (ImageNet's policy)",
    "autoaugment_cifar10": "AutoAugment (CIFAR-10's policy)",
    "trivialaugment": "TrivialAugment",
}
THUMBNAIL = 64  # pixels; larger inputs get random resized crops


class Follow(Config):
    """What is known besides the images.

    given      the settings of each training stage that the recipe or the user has made; they always win
    described  the training stages that the notes describe
    flip       False: no stage exchanges left and right, not even where `given` says so
    rate       the initial learning rate of the checkpoint's own training; the derived rates are never higher. None: not known
    gpu        whether there is one
    """

    given: dict[Training, dict[str, Any]]
    described: Described = ("distill",)
    flip: bool = True
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gpu: bool = False


class Facts(NamedTuple):
    """The training images. `side`: of the network's input in pixels. `scaled`: images are resized to the input, not padded."""

    images: int
    side: int
    channels: int
    classes: int
    scaled: bool
    gpu: bool


def derive_schedule(config: Follow, out: Path, *, images: Path) -> dict[str, Any]:
    """The settings of the training stages, by stage; the `notes` describe them in one line each.

    A student of a baseline that is trained here gets its augmentation, and no more epochs.
    """
    facts = facts_of(json.loads((images / "dataset.json").read_text()), config.gpu)
    found: dict[str, dict[str, Any]] = {}
    for training in STAGES:
        found[training] = settings = derived(facts, training)
        if training == "distill" and "train" in config.described:
            settings |= {"augment": found["train"]["augment"], "epochs": min(settings["epochs"], found["train"]["epochs"])}
        if config.rate and training in ("transfer", "distill"):
            settings["lr"] = min(settings["lr"], config.rate)
        given = config.given.get(training, {})
        if "epochs" in given:
            settings.pop("min_steps", None)
        settings |= given
        if settings["augment"] and not config.flip:
            settings["augment"] = {**settings["augment"], "flip": False}
    notes = [described(facts, training, found[training], config.rate) for training in config.described]
    return {**found, "notes": notes + unused_gpu()}


def facts_of(dataset: dict[str, Any], gpu: bool = False) -> Facts:
    """The facts of dataset.json."""
    channels, side, _ = dataset["input_shape"]
    scaled = dataset["preprocess"]["resize"] != "pad"
    return Facts(dataset["splits"]["train"], side, channels, len(dataset["classes"]), scaled, gpu)


def derived(facts: Facts, training: Training) -> dict[str, Any]:
    """The settings for `training` that follow from the images alone.

    Training with 8-bit rounding is only as long and as quick as its own settings say.
    """
    times = FROM_NOTHING if training == "train" else 1
    seen = times * (SEEN if facts.gpu or facts.side <= THUMBNAIL else SEEN_ON_CPU)
    epochs = min(max(seen // max(1, facts.images), EPOCHS[0]), EPOCHS[1])
    batch = min(BATCH[1], facts.images // EIGHTH, facts.images * epochs // STEPS)
    crops = facts.scaled and facts.side > THUMBNAIL
    augment = Augment(shift=0) if crops else Augment(shift=facts.side // 8, min_area=None)
    settings = {"batch_size": power_of_two(max(BATCH[0], batch)), "augment": augment.model_dump(mode="json")}
    if training == "quantize_aware":
        return settings
    settings |= {"epochs": epochs, "lr": RATES[training] if facts.images >= FEW else RATES[training] / 2}
    return settings | ({"min_steps": SHORT} if training == "distill" else {})


def power_of_two(number: int) -> int:
    """The largest one that is not above `number`."""
    return 1 << (number.bit_length() - 1)


def described(facts: Facts, training: Training, settings: dict[str, Any], rate: float | None) -> str:
    """The `settings` in one line, and the facts that they follow from."""
    what = "schedule of the baseline" if training == "train" else "schedule"
    grey = "grey " if facts.channels == 1 else ""
    steps = max(1, facts.images // settings["batch_size"])
    length = f"{max(settings['epochs'], -(-settings.get('min_steps', 0) // steps))} epochs of {steps:,} steps"
    if settings.get("minutes"):
        length = f"as many steps as fit into {settings['minutes']:g} minutes"
    own = " (the checkpoint's initial rate)" if rate == settings["lr"] and training != "train" else ""
    return (
        f"{what}: {facts.images:,} {grey}images of {facts.side}x{facts.side}, {facts.classes} classes, "
        f"{'a' if facts.gpu else 'no'} GPU: {length}, batch {settings['batch_size']}, peak rate {settings['lr']:g}{own}, "
        f"{joined(changes(facts, Schedule(**settings))) or 'no augmentation'}"
    )


def changes(facts: Facts, schedule: Schedule) -> list[str]:
    """What `schedule` changes in images and steps by chance, in words."""
    return [*moves(facts, schedule.augment), *mixes(schedule)]


def moves(facts: Facts, augment: Augment | None) -> list[str]:
    if augment is None:
        return []
    crops = facts.scaled and augment.min_area is not None
    shifts = f"shifts of up to {augment.shift} pixels" if augment.shift else ""
    return [word for word in ("random resized crops" if crops else shifts, "flips" if augment.flip else "") if word]


def mixes(schedule: Schedule) -> list[str]:
    often = f", {schedule.mix_probability:.0%} of the batches" if schedule.mix_probability < 1 else ""
    policies = POLICIES | {"randaugment": f"RandAugment ({schedule.policy_layers} of magnitude {schedule.policy_magnitude:g})"}
    words = {
        "policy": policies.get(schedule.policy or "", ""),
        "erasing": f"random erasing ({schedule.erasing:.0%} of the images)",
        "mixup": f"mixup ({schedule.mixup:g}{often})",
        "cutmix": f"cutmix ({schedule.cutmix:g}{often})",
        "sizes": f"sides of {joined([str(size) for size in schedule.sizes])} pixels",
        "stochastic_depth": f"stochastic depth ({schedule.stochastic_depth:g})",
    }
    return [text for key, text in words.items() if getattr(schedule, key)]
