"""A user's own checkpoint, images and network through the whole line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.loader import Split
from models.resnet import ResNet, family_spec
from pipeline.__main__ import main

QUICK = [
    "--set",
    "measure.queries=10",
    "--set",
    "measure.throughput=[1]",
    "--set",
    "measure.warmup=0",
    "--set",
    "calibrate.images=32",
]
SHORT = [
    "--set", "distill.epochs=1", "--set", "distill.min_steps=0", "--set", "prune.norm_images=64",
    "--set", "prune.pruning_ratio=0.5", "--max-drop", "100",
]  # fmt: skip
FACTORY = """
from torch import nn


def build(num_classes=2, in_channels=3):
    def layer(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    features = [layer(in_channels, 32), layer(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(64, num_classes))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures of two classes, bright and dark at the left, and a network that saw a few of them."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 15)):
        for label in ("Äpfel", "梨"):
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (60, 60), np.uint8)
                pixels[:, 30 * (label == "梨") :][:, :30] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    torch.manual_seed(0)
    network = ResNet(family_spec("resnet18", num_classes=2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    x, y = plain(root / "data/train")
    for step in range(20):
        chosen = torch.arange(step, len(x), 4)
        loss = torch.nn.functional.cross_entropy(network(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({"state_dict": {f"module.{k}": t for k, t in network.state_dict().items()}}, root / "mine.pth")
    (root / "a_users_network.py").write_text(FACTORY)
    sys.path.insert(0, str(root))
    return root


def plain(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The images as plain PyTorch code would prepare them for a 32x32 input: resize 36, centre crop, ImageNet's numbers."""
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x, y = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir()):
            image = Image.open(path).convert("RGB").resize((36, 36), Image.Resampling.BILINEAR).crop((2, 2, 34, 34))
            x.append((torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std)
            y.append(label)
    return torch.stack(x), torch.tensor(y)


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["pipeline", *arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def rows_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in report["rows"]}


@pytest.mark.slow
def test_the_baseline_is_what_plain_pytorch_gets(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(
        monkeypatch, tmp_path, "compress", "resnet18", "--checkpoint", str(own / "mine.pth"), "--data", str(own / "data"),
        "--input-size", "32", "--targets", "onnxruntime", *QUICK, *SHORT,
    )  # fmt: skip
    model = ResNet(family_spec("resnet18", num_classes=2)).eval()
    model.load_state_dict({k.removeprefix("module."): t for k, t in torch.load(own / "mine.pth")["state_dict"].items()})
    x, y = plain(own / "data/val")
    files = [f"val/{label}/{path.name}" for label in ("Äpfel", "梨") for path in sorted((own / "data/val" / label).iterdir())]
    with torch.inference_mode():
        right = (model(x).argmax(1) == y).numpy()
    assert right.sum() > 20  # of 30: it learnt something
    (images,) = (tmp_path / "stages").glob("index-*")
    counted = {}
    for split in ("val", "test"):
        names = [Split(images, split).name(i) for i in range(15)]
        counted[split] = int(right[[files.index(name) for name in names]].sum())
    assert report["dataset"]["chosen_on"] == {"source": "test", "n": 15} and report["dataset"]["judged_on"]["n"] == 15
    for target in ("torch", "onnxruntime"):
        baseline = rows_of(report)[f"baseline-fp32/{target}"]
        assert baseline["accuracy"]["correct"] == counted["test"]
        assert baseline["chosen_on"]["top1"] == pytest.approx(100 * counted["val"] / 15)
    assert report["dataset"]["classes"] == ["Äpfel", "梨"]
    assert {entry["label"] for entry in report["per_class"]} == {"Äpfel", "梨"}
    bundle = tmp_path / "bundle/onnxruntime"
    assert (bundle / "labels.txt").read_text(encoding="utf-8") == "Äpfel\n梨\n"
    for command in (["verify.py"], ["infer.py", str(own / "data/val/梨/0.png")]):
        done = subprocess.run([sys.executable, *command], cwd=bundle, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_without_training_images_it_only_quantizes(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    data = tmp_path / "images"
    data.mkdir()
    if labelled:
        (data / "val").symlink_to(own / "data/train")
    else:
        for i, path in enumerate(sorted((own / "data/train").rglob("*.png"))):
            (data / f"{i}.png").symlink_to(path)
    report = run(
        monkeypatch, tmp_path / "out", "compress", "resnet18", "--checkpoint", str(own / "mine.pth"), "--data", str(data),
        "--input-size", "32", "--targets", "onnxruntime", "--max-drop", "50", *QUICK,
    )  # fmt: skip
    rows = rows_of(report)
    assert "student-fp32/onnxruntime" not in rows
    assert not any(stage["name"].startswith(("prune", "distill")) for stage in report["stages"])
    int8 = rows["student-int8/onnxruntime"]
    assert int8["ships"] and int8["int8_share"] > 0.99
    assert report["gate"]["metric"] == ("top1" if labelled else "agreement")
    assert (int8["accuracy"] is None) == (int8["agreement"] is not None) == (not labelled)
    assert report["dataset"]["splits"] == {"train": 16, "val": 32, "test": 32}
    assert any("for calibration" in note for note in report["notes"])
    if not labelled:
        assert "accuracy" in (tmp_path / "out/report.md").read_text()  # what agreement is not
        assert (tmp_path / "out/bundle/onnxruntime/labels.txt").read_text() == "class 0\nclass 1\n"


@pytest.mark.slow
def test_a_network_of_ones_own_is_trained_pruned_and_shipped(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(
        monkeypatch, tmp_path, "compress", "a_users_network:build", "--data", str(own / "data"), "--input-size", "32",
        "--targets", "onnxruntime", "--set", "train.epochs=1", "--set", "train.batch_size=16", "--expect-top1", "0",
        *QUICK, *SHORT,
    )  # fmt: skip
    rows = rows_of(report)
    assert rows["student-int8/onnxruntime"]["params"] * 2 < rows["baseline-fp32/onnxruntime"]["params"]
    assert rows["student-int8/onnxruntime"]["int8_share"] > 0.99
    assert any("self-distillation" in note for note in report["notes"])


@pytest.mark.slow
def test_transfer_learning_makes_a_checkpoint_for_compress(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    torch.save(ResNet(family_spec("resnet18", num_classes=9)).state_dict(), tmp_path / "nine.pth")
    command = [
        "train",
        "resnet18",
        "--checkpoint",
        str(tmp_path / "nine.pth"),
        "--data",
        str(own / "data"),
        "--input-size",
        "32",
    ]
    out = tmp_path / "out"
    for more, made in ((["--epochs", "1", "--trainable-blocks", "0"], "model.safetensors"), (["--features"], "features.npz")):
        monkeypatch.setattr("sys.argv", ["pipeline", *command, *more, "--out", str(out)])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0
        file = Path(capsys.readouterr().out.strip().splitlines()[-1])
        assert file.name == made and file.is_file()
        if made == "model.safetensors":
            trained = file
    with np.load(file) as arrays:
        assert arrays["test_features"].shape == (30, 512)
    report = run(  # its classes and its preprocessing lie beside it
        monkeypatch, tmp_path / "pressed", "compress", "resnet18", "--checkpoint", str(trained), "--data", str(own / "data"),
        "--no-finetune", "--expect-top1", "0", "--targets", "onnxruntime", "--max-drop", "100", *QUICK,
    )  # fmt: skip
    assert report["dataset"]["preprocess"]["input_size"] == 32
