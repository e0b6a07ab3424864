"""Bundles for other devices on their emulated CPUs: they verify, and predict what they predict on x86. `make test-arm64`.

The network is a resnet20 after a short training on Fashion-MNIST: of an untrained one, every rounding changes the class.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.emulated import DEVICES, Emulated
from benchmarks.placements import predictions
from core.digest import PROJECT
from data.loader import Split
from reports.run_folder import read_record

FOR = ("onnxruntime@arm64", "onnxruntime@x86-avx2", "onnxruntime@x86-vnni")
IMAGES = 1000
# device: (the bundle for it, points of top-1 that it may differ from x86's)
OWN = {"cortex-a76": (FOR[0], 0.2), "cortex-a72": (FOR[0], 0.2), "haswell": (FOR[1], 0.3)}

pytestmark = [
    pytest.mark.slow,  # minutes: emulated instructions
    pytest.mark.skipif("EMULATED" not in os.environ, reason="emulated devices take minutes: make test-arm64"),
]


@pytest.fixture(params=OWN)
def emulated(request: pytest.FixtureRequest) -> Emulated:
    found = DEVICES[request.param]
    if found.missing:
        pytest.skip(found.missing)
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained a resnet20 and quantized it for the devices."""
    root = tmp_path_factory.mktemp("run")

    def respress(*words: str) -> str:
        line = [sys.executable, "-m", "pipeline", *words, "--data", "fashion-mnist"]
        done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    training = ["--epochs", "1", "--set", "data.train_limit=20000", "--set", "data.test_limit=3000"]
    checkpoint = respress("train", "resnet20", *training, "--out", str(root / "trained")).split()[-1]
    quantizing = [
        "--no-finetune",
        "--set",
        "data.test_limit=3000",
        "--set",
        "measure.queries=20",
        "--set",
        "calibrate.images=256",
    ]
    out = str(root / "pressed")
    respress("compress", "resnet20", "--checkpoint", checkpoint, *quantizing, "--targets", ",".join(FOR), "--out", out)
    return root / "pressed"


@pytest.fixture(scope="session")
def images(run: Path) -> tuple[np.ndarray, np.ndarray]:
    split = Split(read_record(run).images.path, "test")
    chosen = list(range(min(IMAGES, len(split))))
    return split.__getitems__(chosen)[0].numpy(), split.labels[chosen]


def test_the_bundle_for_the_device_verifies_there(emulated: Emulated, run: Path) -> None:
    name, _ = OWN[emulated.name]
    done = emulated.run(run / "bundle" / name, "verify.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 16 images") and "preprocessing bit-identical" in done.stdout
    same_kind = name.partition("@")[2] == emulated.profile
    assert ("note: the bundle was made for" in done.stdout) != same_kind


def test_it_predicts_there_what_it_predicts_on_x86(
    emulated: Emulated, run: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    name, points = OWN[emulated.name]
    x, labels = images
    here, there = (predictions(run / "bundle" / name, x, device) == labels for device in (None, emulated))
    assert here.mean() > 0.6  # the network is trained
    assert abs(100 * (here.mean() - there.mean())) <= points, f"{here.mean()} here, {there.mean()} on {emulated.name}"


def test_a_bundle_for_another_cpu_says_so(run: Path) -> None:
    if DEVICES["haswell"].missing:
        pytest.skip(DEVICES["haswell"].missing)
    done = DEVICES["haswell"].run(run / "bundle" / FOR[2], "verify.py")
    assert "the bundle was made for x86-vnni, and this CPU is x86-avx2" in done.stdout + done.stderr
