"""Whole runs that must not end in a pass, because their images or their engines show nothing: a warning or a refusal."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from export.targets import onnxruntime
from pipeline.__main__ import main

QUICK = [
    "measure.queries=10", "measure.throughput=[1]", "measure.warmup=0", "calibrate.images=32",
    "calibrate.method=max",
]  # fmt: skip
FACTORY = """
from torch import nn


def build(num_classes=2, in_channels=1):
    def layer(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    features = [layer(in_channels, 16), layer(16, 32), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(64, num_classes))
"""
CLASSES = ("left", "right")
SIDE = 16
Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Place:
    """Checkpoints of a network that distinguishes the images and of one that does not, and DATA of a case's own."""

    root: Path
    data: Path

    def compress(self, checkpoint: str = "good", *more: str) -> list[str]:
        command = ["compress", "networks_never_fooled:build", "--checkpoint", str(self.root / f"{checkpoint}.pth")]
        command += ["--data", str(self.data), "--input-size", str(SIDE), "--resize", str(SIDE), "--mean", "0", "--std", "1"]
        return [*command, "--no-finetune", "--targets", "onnxruntime", *(more or ("--max-drop", "5"))]

    def images(self, split: str, left: int, right: int, seed: int, folders: Sequence[str] = CLASSES) -> None:
        """`left` images that are bright at the left and `right` ones that are bright at the right, in these class `folders`."""
        for bright, (folder, count) in enumerate(zip(folders, (left, right), strict=True)):
            for i, pixels in enumerate(pictures(bright, count, seed)):
                file = self.data / split / folder / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)

    def sound(self, left: int = 60, right: int = 60, folders: Sequence[str] = CLASSES) -> None:
        """Images that train, that choose, and `left` and `right` ones that judge."""
        for seed, split in enumerate(("train", "val")):
            self.images(split, 50, 50, seed, folders)
        self.images("test", left, right, 2, folders)


def pictures(bright: int, count: int, seed: int) -> np.ndarray:
    """uint8 [count, SIDE, SIDE]: noise that is brighter at the left (`bright` 0) or at the right (1)."""
    pixels = np.random.default_rng((seed, bright)).integers(0, 120, (count, SIDE, SIDE), np.uint8)
    pixels[:, :, SIDE // 2 * bright :][:, :, : SIDE // 2] += 120
    return pixels


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("networks")
    (root / "networks_never_fooled.py").write_text(FACTORY)
    sys.path.insert(0, str(root))
    from networks_never_fooled import build  # type: ignore[import-not-found]

    torch.manual_seed(0)
    network: torch.nn.Module = build()
    x = torch.from_numpy(np.concatenate([pictures(bright, 200, 9) for bright in (0, 1)]))[:, None] / 255
    y = torch.repeat_interleave(torch.arange(2), 200)
    torch.save(guessing(network, x), root / "guesses.pth")
    optimizer = torch.optim.Adam(network.train().parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    torch.save(network.state_dict(), root / "good.pth")
    return root


def guessing(network: torch.nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """The weights of `network` with a head that looks at noise only: its predictions have nothing to do with the classes."""
    state = {key: value.clone() for key, value in network.state_dict().items()}
    head = torch.randn(1, 64)
    with torch.inference_mode():
        inner = network.eval()[:4](x)  # type: ignore[index]
    middle = inner.mean(0)
    difference = inner[:200].mean(0) - inner[200:].mean(0)
    head = head - (head @ difference) / (difference @ difference) * difference
    state["4.weight"] = torch.cat([head, -head])
    state["4.bias"] = torch.stack([-(head @ middle)[0], (head @ middle)[0]])
    return state


@pytest.fixture
def place(networks: Path, tmp_path: Path) -> Place:
    return Place(networks, tmp_path / "data")


def ends(arguments: list[str], out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    changes = [part for change in QUICK for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments, "--out", str(out), *changes])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def constant(x: np.ndarray) -> np.ndarray:
    return np.tile(np.asarray([[1.0, -1.0]], np.float32), (len(x), 1))


def wrong_half(x: np.ndarray) -> np.ndarray:
    """Right for the images that are bright at the right, and for those at the left where a pixel says so."""
    left = x[:, 0, :, : SIDE // 2].mean((1, 2)) > x[:, 0, :, SIDE // 2 :].mean((1, 2))
    found = (left & (x[:, 0, 0, 0] > np.median(x[:, 0, 0, 0]))).astype(np.float32)
    return np.stack([found, 0.5 + 0 * found], axis=1)


def instead(run: Callable[[np.ndarray], np.ndarray], *precisions: str) -> Patch:
    """Engines of these precisions compute `run`, as a broken runtime would."""
    load = onnxruntime.load

    def broken(engine: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
        precision = json.loads((engine / "manifest.json").read_text())["metrics"]["precision"]
        return run if precision in precisions else load(engine, threads)

    return lambda monkeypatch: monkeypatch.setattr(onnxruntime, "load", broken)


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def copied(place: Place) -> list[str]:
    """All test images are also training images."""
    place.sound()
    shutil.rmtree(place.data / "test")
    shutil.copytree(place.data / "train", place.data / "test")
    return place.compress()


def labelled_by_table(place: Place, *labels: str) -> list[str]:
    """Test images in one folder with a table; the other images are in class folders."""
    place.sound()
    files = sorted((place.data / "test").rglob("*.png"))
    rows = ["file_name,label"]
    for i, file in enumerate(files):
        file.rename(place.data / "test" / f"{i}.png")
        rows.append(f"{i}.png,{labels[min(i, len(labels) - 1)]}")
    for name in CLASSES:
        (place.data / "test" / name).rmdir()
    (place.data / "test/labels.csv").write_text("\n".join(rows))
    return place.compress()


def judging_table(place: Place) -> list[str]:
    """Only test images, and a table that says -1 for all but one."""
    command = labelled_by_table(place, "right", "-1")
    for split in ("train", "val"):
        shutil.rmtree(place.data / split)
    return command


def sound(place: Place, left: int = 60, right: int = 60, checkpoint: str = "good", more: Sequence[str] = ()) -> list[str]:
    place.sound(left, right)
    return place.compress(checkpoint, *more)


def renamed(place: Place) -> list[str]:
    """The class folders are not in the order of the outputs: what is bright at the left is in the second folder."""
    place.sound(folders=("zebra", "ant"))
    return place.compress()


def one_class(place: Place, *more: str) -> list[str]:
    place.sound(right=0)
    return place.compress("good", *more)


@dataclass(frozen=True)
class Fooled:
    """The command, how the machine is broken, the exit code, and what one of the messages must say.

    `verdict` is None if the run is refused.
    """

    command: Callable[[Place], list[str]]
    says: str
    code: int = 0
    verdict: str | None = "inconclusive"
    patch: Patch = untouched


CONFIRMED = ("--max-drop", "5", "--expect-top1")
CASES: dict[str, Fooled] = {
    "an engine that returns constants": Fooled(
        sound, "fails the gate and does not ship", 1, "fail", instead(constant, "int8")
    ),
    "an engine that returns constants, where hardly any image is of another class": Fooled(
        lambda place: sound(place, left=150, right=2),
        "it predicts the same class for all images that count, as a broken engine would",
        patch=instead(constant, "int8"),
    ),
    "a runtime that returns constants": Fooled(
        sound, "it predicts the same class for all images that count", patch=instead(constant, "int8", "fp32")
    ),
    "50 images": Fooled(
        lambda place: sound(place, 25, 25, more=("--max-drop", "1")), "50 test images are too few for a limit of 1 point"
    ),
    "test images that are also training images": Fooled(
        copied, "100 of 100 test images are also training images", 2, None
    ),
    "a baseline at chance": Fooled(
        lambda place: sound(place, checkpoint="guesses"), "no better than random guessing among 2 classes", 2, None
    ),
    "a baseline at chance, confirmed": Fooled(
        lambda place: sound(place, checkpoint="guesses", more=(*CONFIRMED, "50")),
        "cannot pass: the FP32 baseline only guesses on these images",
    ),
    "classes in another order": Fooled(renamed, "the labels are not in the order of the network's outputs", 2, None),
    "an engine that is far better than its baseline": Fooled(
        sound, "points better than its FP32 baseline on the images that judge", patch=instead(wrong_half, "fp32")
    ),
    "test images of one class": Fooled(one_class, "all 60 test images are of class 'left'", 2, None),
    "test images of one class, confirmed": Fooled(
        lambda place: one_class(place, *CONFIRMED, "100"), "cannot pass: all images that count are of one class"
    ),
    "labels that are -1 but one, beside class folders": Fooled(
        lambda place: labelled_by_table(place, "right", "-1"), "test images of classes that train/ does not have: -1", 2, None
    ),
    "labels that are -1 but one": Fooled(judging_table, "no better than always predicting '-1'", 2, None),
    "labels that are missing but one": Fooled(
        lambda place: labelled_by_table(place, "right", ""), "119 of 120 images have no label in labels.csv", 2, None
    ),
}  # fmt: skip


@pytest.mark.slow
def test_a_sound_run_passes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(sound(place), tmp_path / "out", monkeypatch) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["gate"]["verdict"] == "pass" and all(row["drop"]["doubts"] == [] for row in report["rows"] if row["drop"])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_a_warning_or_a_refusal(
    name: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    case.patch(monkeypatch)
    assert ends(case.command(place), tmp_path / "out", monkeypatch) == case.code
    output = capfd.readouterr()
    if case.verdict is None:
        assert case.says in output.err and not (tmp_path / "out/report.json").exists()
        return
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["gate"]["verdict"] == case.verdict
    assert any(case.says in note for note in report["notes"]), report["notes"]
