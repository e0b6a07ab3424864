"""Broken and hostile input of every kind: exit code 2, one line that says what to do, no traceback, nothing lost."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.resnet import ResNet, Spec, family_spec
from pipeline.__main__ import main
from tests.models.test_checkpoint import cases as checkpoints

SPEC = family_spec("resnet18", num_classes=2)


@dataclass(frozen=True)
class Box:
    """A folder of one's own, and copies of what is sound: a checkpoint of two classes, and images for it."""

    root: Path

    @property
    def checkpoint(self) -> str:
        return str(self.root / "sound.pth")

    @property
    def data(self) -> Path:
        return self.root / "data"

    def file(self, name: str, content: str | bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def given(self, *more: str) -> list[str]:
        return ["compress", "resnet18", "--checkpoint", self.checkpoint, "--data", str(self.data), "--input-size", "32", *more]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 44, 3), np.uint8)).save(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    torch.manual_seed(0)
    torch.save(ResNet(SPEC).state_dict(), root / "sound.pth")
    seeds = itertools.count()
    for split, count in (("train", 20), ("val", 25)):
        for label in ("cat", "dog"):
            for i in range(count):
                picture(root / "data" / split / label / f"{i}.png", next(seeds))
    return root


@pytest.fixture
def box(sound: Path, tmp_path: Path) -> Box:
    (tmp_path / "sound.pth").symlink_to(sound / "sound.pth")
    shutil.copytree(sound / "data", tmp_path / "data")
    return Box(tmp_path)


Case = tuple[Callable[[Box], list[str]], str]
FMNIST = ["compress", "resnet18"]

COMMANDS: dict[str, Case] = {
    "no model": (lambda b: ["compress"], "Missing argument 'model'"),
    "no command of ours": (lambda b: ["squeeze"], "squeeze"),
    "unknown model": (lambda b: ["compress", "resnet19"], "known models: resnet18"),
    "unknown module": (lambda b: ["compress", "no_such_module:build"], "no module 'no_such_module'"),
    "unknown flag": (lambda b: [*FMNIST, "--no-such-flag"], "--no-such-flag"),
    "unknown data": (lambda b: [*FMNIST, "--data", "imagenette"], "expected one of fashion-mnist"),
    "unknown device": (lambda b: [*FMNIST, "--targets", "onnxruntime@pi9"], "known profiles: arm64, arm64-dotprod, x86-avx2"),
    "device without a GPU": (lambda b: [*FMNIST, "--targets", "tensorrt@arm64"], "tensorrt cannot be made for arm64; expected jetson-orin"),
    "engine of this machine": (lambda b: [*FMNIST, "--targets", "tensorrt_rtx@orin"], "expected tensorrt_rtx alone, for this machine"),
    "budget on a device": (lambda b: [*FMNIST, "--budget", "latency=4ms@onnxruntime@pi9"], "known profiles"),
    "no threads": (lambda b: [*FMNIST, "--threads", "0"], "--threads"),
    "unknown target": (lambda b: [*FMNIST, "--targets", "abacus"], "known targets: onnxruntime"),
    "the reference as a target": (lambda b: [*FMNIST, "--targets", "torch"], "reference"),
    "max-drop is no number": (lambda b: [*FMNIST, "--max-drop", "much"], "--max-drop"),
    "max-drop is nan": (lambda b: [*FMNIST, "--max-drop", "nan"], "gate.max_drop"),
    "budget of an unknown kind": (lambda b: [*FMNIST, "--budget", "latency=4ms"], "params=10M"),
    "budget without a number": (lambda b: [*FMNIST, "--budget", "params=few"], "params=10M"),
    "negative budget": (lambda b: [*FMNIST, "--budget", "params=-3M"], "params=10M"),
    "no such recipe": (lambda b: [*FMNIST, "--recipe", str(b.root / "none.toml")], "does not exist"),
    "recipe is not TOML": (lambda b: [*FMNIST, "--recipe", b.file("r.toml", "[train\n")], "is not TOML"),
    "recipe with an unknown section": (lambda b: [*FMNIST, "--recipe", b.file("r.toml", "[trian]\nepochs = 1")], "unknown key 'trian'; known keys:"),
    "recipe with an unknown key": (lambda b: [*FMNIST, "--recipe", b.file("r.toml", "[prune]\nratio = 1")], "pruning_ratio"),
    "recipe with a wrong type": (lambda b: [*FMNIST, "--recipe", b.file("r.toml", '[prune]\nround_to = "x"')], "prune.round_to"),
    "--set without =": (lambda b: [*FMNIST, "--set", "prune.pruning_ratio"], "expected section.key=value"),
    "--set of an unknown key": (lambda b: [*FMNIST, "--set", "prune.ratio=0.5"], "known keys: pruning_ratio"),
    "--set of a section": (lambda b: [*FMNIST, "--set", "train=3"], "expected a section"),
    "--set out of bounds": (lambda b: [*FMNIST, "--set", "prune.pruning_ratio=1.5"], "prune.pruning_ratio = 1.5"),
    "--set of a target's unknown option": (lambda b: [*FMNIST, "--set", "targets.tensorrt_rtx.foo=1"], "known keys: profile, opt_batch"),
    "unknown student": (lambda b: b.given("--set", "student.arch=resnet9", "--expect-top1", "50"), "unknown student 'resnet9'"),
    "student that is not contained": (lambda b: b.given("--set", "student.arch=resnet50", "--expect-top1", "50"), "is not contained in resnet18"),
    "only quantize, but nothing is trained": (lambda b: [*FMNIST, "--no-finetune"], "pass CHECKPOINT"),
    "only quantize, with a budget": (lambda b: b.given("--no-finetune", "--budget", "params=1M"), "BUDGET needs pruning"),
    "features of nothing": (lambda b: ["train", "resnet18", "--features"], "pass CHECKPOINT"),
    "OUT is a file": (lambda b: [*FMNIST, "--out", b.file("taken", "")], "cannot write to OUT"),
    "report of nothing": (lambda b: ["report", str(b.root)], "run.json is missing"),
    "mean is text": (lambda b: b.given("--mean", "bright"), "--mean 'bright': expected a number"),
    "mean of two channels": (lambda b: b.given("--mean", "0.5,0.5"), "mean has 2 numbers"),
    "mean is infinite": (lambda b: b.given("--mean", "inf"), "data.mean"),
    "mean of 0 to 255": (lambda b: b.given("--mean", "123.7"), "less than or equal to 1"),
    "std is zero": (lambda b: b.given("--std", "0"), "data.std"),
    "resize to what": (lambda b: b.given("--resize", "large"), "'pad' or 'squash'"),
    "resize below the input": (lambda b: b.given("--resize", "24"), "resize 24 is smaller than input_size 32"),
    "resize said twice": (lambda b: b.given("--resize", "40", "--crop-pct", "0.9"), "set the same thing and disagree"),
    "crop of more than all": (lambda b: b.given("--crop-pct", "1.5"), "data.crop_pct = 1.5"),
    "unknown interpolation": (lambda b: b.given("--interpolation", "magic"), "data.interpolation = 'magic'"),
    "two channels": (lambda b: b.given("--channels", "2"), "data.channels = 2"),
    "other channels than the checkpoint": (lambda b: b.given("--channels", "1"), "the checkpoint takes 3"),
    "input of four pixels": (lambda b: ["compress", "resnet18", "--input-size", "4"], "data.input_size = 4"),
    "an accuracy that it has not": (lambda b: b.given("--expect-top1", "99.5"), "expected 99.5 %: preprocessing mismatch?"),
    "an accuracy that training does not reach": (lambda b: [*trained_here(b), "--expect-top1", "99.5"], "expected 99.5 %: train it longer"),
    "a network that learnt nothing here": (lambda b: trained_here(b), "no better than always predicting"),
    "images of one class": (lambda b: ["compress", "resnet18", "--data", str(one_class(b))], "are of one class, 'cat'; expected at least two classes"),
    "an impossible accuracy": (lambda b: b.given("--expect-top1", "150"), "expect.top1 = 150"),
    "a network that guesses": (lambda b: b.given(), "predicts 'cat' for all 25 images, no better than always predicting 'cat' (52.0 % of the images): preprocessing mismatch?"),
}  # fmt: skip


def trained_here(box: Box) -> list[str]:
    """One epoch on noise."""
    data = ["--data", str(box.data), "--input-size", "32"]
    return ["compress", "resnet18", *data, "--set", "train.epochs=1", "--set", "train.batch_size=16"]


def one_class(box: Box) -> Path:
    for split in ("train", "val"):
        shutil.rmtree(box.data / split / "dog")
    return box.data


def without(box: Box, *parts: str) -> list[str]:
    shutil.rmtree(box.data.joinpath(*parts))
    return box.given()


def beside(box: Box, name: str, content: str | bytes) -> list[str]:
    box.file(name, content)
    return box.given()


def spoilt(box: Box, pattern: str, content: bytes) -> list[str]:
    for path in box.data.glob(pattern):
        path.write_bytes(content)
    return box.given()


def other_checkpoint(box: Box, spec: Spec) -> list[str]:
    path = box.root / "other.pth"
    torch.save(ResNet(spec).state_dict(), path)
    return ["compress", "resnet18", "--checkpoint", str(path), "--data", str(box.data), "--input-size", "32"]


def moved(box: Box, source: str, target: str) -> list[str]:
    (box.data / target).parent.mkdir(parents=True, exist_ok=True)
    (box.data / source).rename(box.data / target)
    return box.given()


def unlabelled(box: Box) -> list[str]:
    return [
        "compress",
        "resnet18",
        "--checkpoint",
        box.checkpoint,
        "--data",
        str(box.data / "val" / "cat"),
        "--input-size",
        "32",
    ]


def only_hidden(box: Box) -> list[str]:
    for path in (box.data / "train" / "dog").iterdir():
        path.rename(path.with_name(f".{path.name}"))
    return box.given()


def one_each(box: Box) -> list[str]:
    for path in box.data.glob("train/*/*.png"):
        if path.stem != "0":
            path.unlink()
    return [*FMNIST, "--data", str(box.data)]  # a checkpoint holds out no training images


IMAGES: dict[str, Case] = {
    "no such folder": (lambda b: [*FMNIST, "--data", str(b.root / "none")], "neither a folder nor a known data set"),
    "a file as DATA": (lambda b: [*FMNIST, "--data", b.checkpoint], "is a file"),
    "an empty folder": (lambda b: [*FMNIST, "--data", str((b.root / "empty").mkdir() or b.root / "empty")], "train/<class>"),
    "train/ only": (lambda b: without(b, "val"), "val/"),
    "train/ is empty": (lambda b: without(b, "train", "cat") and without(b, "train", "dog"), "train"),
    "a class that training lacks": (lambda b: moved(b, "val/cat", "val/cow"), "cow"),
    "a class with hidden files only": (only_hidden, "dog"),
    "one image per class": (one_each, "expected at least 2 training images per class"),
    "zero bytes": (lambda b: spoilt(b, "train/cat/1?.png", b""), "cannot be read"),
    "text named .png": (lambda b: spoilt(b, "val/dog/*.png", b"not an image"), "cannot be read"),
    "truncated images": (lambda b: spoilt(b, "train/*/1?.png", Path(b.data / "train/cat/0.png").read_bytes()[:200]), "cannot be read"),
    "all of them unreadable": (lambda b: spoilt(b, "*/*/*.png", b"\x89PNG\r\n\x1a\n"), "cannot be read"),
    "a bomb": (lambda b: spoilt(b, "val/*/*.png", bomb()), "cannot be read"),
    "other classes than the checkpoint": (lambda b: other_checkpoint(b, family_spec("resnet18", num_classes=9)), "has 9 classes, DATA data has 2 (cat, dog)"),
    "four input channels": (lambda b: other_checkpoint(b, family_spec("resnet18", num_classes=2, in_channels=4)), "takes 4 input channels"),
    "unlabelled images and no checkpoint": (lambda b: [*FMNIST, "--data", str(b.data / "val" / "cat")], "pass one"),
    "labels.txt of another length": (lambda b: beside(b, "labels.txt", "cat\n"), "labels.txt has 1 lines"),
    "labels.txt without a class": (lambda b: beside(b, "labels.txt", "cat\ncow\n"), "labels.txt of the checkpoint does not have: dog"),
    "labels.txt is not UTF-8": (lambda b: beside(b, "labels.txt", b"cat\n\xff\xfe\n"), "not UTF-8"),
    "preprocess.json is not JSON": (lambda b: beside(b, "preprocess.json", "{"), "cannot be read as JSON"),
    "preprocess.json is a list": (lambda b: beside(b, "preprocess.json", "[]"), "expected an object"),
    "preprocess.json with an unknown key": (lambda b: beside(b, "preprocess.json", '{"colour": "bgr"}'), "unknown keys colour"),
    "preprocess.json with a zero std": (lambda b: beside(b, "preprocess.json", '{"std": [0, 0, 0]}'), "std"),
    "config.json of a network with the same names": (lambda b: beside(b, "config.json", '{"architecture": "resnetaa18", "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5]}}'), "says that this is a resnetaa18"),
    "config.json with one number for the size": (lambda b: beside(b, "config.json", '{"input_size": 224, "mean": [0.5]}'), "expected [channels, side, side]"),
    "a budget and nothing to train on": (lambda b: [*without(b, "train"), "--budget", "params=1M"], "BUDGET needs training images"),
    "an accuracy of unlabelled images": (lambda b: [*unlabelled(b), "--expect-top1", "90"], "needs labelled images"),
    "config.json is not JSON": (lambda b: beside(b, "config.json", "not JSON"), "cannot be read as JSON"),
}  # fmt: skip


def bomb() -> bytes:
    """A PNG that claims to be 60,000 x 60,000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0" * 64


def refused(arguments: list[str], box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints on stderr; it must end with exit code 2 after a single line."""
    out = [] if arguments[0] in ("report", "squeeze") or "--out" in arguments else ["--out", str(box.root / "out")]
    monkeypatch.setattr("sys.argv", ["pipeline", *arguments, *out])
    with pytest.raises(SystemExit) as exit_:
        main()
    message = capsys.readouterr().err
    assert exit_.value.code == 2, message
    assert message.startswith("error: ") and len(message.strip().splitlines()) == 1, message
    return message


@pytest.mark.slow
@pytest.mark.parametrize("case", [*COMMANDS, *IMAGES])
def test_refused_with_one_line(
    case: str, box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = {**COMMANDS, **IMAGES}[case]
    assert message in refused(arguments(box), box, monkeypatch, capsys)


@pytest.mark.slow
def test_checkpoints_refused_with_one_line(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    state = ResNet(family_spec("resnet18", num_classes=7, in_channels=1)).state_dict()
    broken = checkpoints(state, box.root)
    broken["absent"] = (box.root / "absent.pth", "cannot be read (no such file or directory)")
    broken["a folder"] = (box.root / "data", "cannot be read (is a directory)")
    for name, (path, message) in broken.items():
        found = refused(["compress", "resnet18", "--checkpoint", str(path)], box, monkeypatch, capsys)
        assert message in found, (name, found)
