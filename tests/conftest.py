"""Small real inputs that several tests share: Fashion-MNIST images, a network, its ONNX file, its ranges; and time limits."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from calibration.observe import Calibrate, observe
from data.index import Data, index
from export.onnx import Export, export_onnx
from models.batchnorm import reestimate
from models.checkpoint import save
from models.resnet import ResNet, family_spec
from tests.widths import narrow

SECONDS, SLOW_SECONDS = 300, 1800  # far above what a test takes, so that a busy machine fails none


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that hangs, its fixtures included, fails; the others still run."""
    seconds = SLOW_SECONDS if item.get_closest_marker("slow") else SECONDS

    def stop(*_: object) -> None:
        pytest.fail(f"{item.nodeid} took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Small:
    images: Path
    model: Path
    onnx: Path
    ranges: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """An untrained resnet18 with half of its channels, whose batch norm statistics fit the images.

    Its activations look like real ones.
    """
    from data.loader import Split, batches

    found = Small(*(tmp_path_factory.mktemp(name) for name in ("images", "model", "onnx", "ranges")))
    dataset = index(Data(train_limit=600, test_limit=64), found.images)
    torch.manual_seed(0)
    spec = narrow(family_spec("resnet18", num_classes=len(dataset["classes"]), in_channels=1), 2)
    network = ResNet(spec)
    reestimate(network, (x for x, _ in batches(Split(found.images, "train"), 64)))
    save(network.eval(), spec, found.model)
    metrics = export_onnx(Export(), found.onnx, model=found.model, images=found.images)
    (found.onnx / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    observe(Calibrate(images=64), found.ranges, model=found.onnx, images=found.images)
    return found
