"""Small real inputs that several tests share: Fashion-MNIST images, a network, its ONNX file, its ranges."""

import json
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


@dataclass(frozen=True)
class Small:
    images: Path
    model: Path
    onnx: Path
    ranges: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """An untrained resnet18 whose batch norm statistics fit the images, so that its activations look like real ones."""
    from data.loader import Split, batches

    found = Small(*(tmp_path_factory.mktemp(name) for name in ("images", "model", "onnx", "ranges")))
    dataset = index(Data(train_limit=600, test_limit=64), found.images)
    torch.manual_seed(0)
    spec = family_spec("resnet18", num_classes=len(dataset["classes"]), in_channels=1)
    network = ResNet(spec)
    reestimate(network, (x for x, _ in batches(Split(found.images, "train"), 64)))
    save(network.eval(), spec, found.model)
    metrics = export_onnx(Export(), found.onnx, model=found.model, images=found.images)
    (found.onnx / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    observe(Calibrate(images=64), found.ranges, model=found.onnx, images=found.images)
    return found
