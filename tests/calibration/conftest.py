"""A network as deep as a resnet18 with an eighth of its channels: the same graph in a fraction of the time."""

import pytest
import torch

from data.loader import Split, batches
from export.onnx import Export, export_onnx
from models.batchnorm import reestimate
from models.checkpoint import save
from models.resnet import ResNet, Spec, family_spec
from tests.conftest import Small


def narrow(spec: Spec) -> Spec:
    widths = tuple(tuple(tuple(width // 8 for width in block) for block in stage) for stage in spec.widths)
    return spec.model_copy(update={"stem_width": spec.stem_width // 8, "widths": widths, "groups": max(1, spec.groups // 8)})


@pytest.fixture(scope="session")
def thin(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Untrained, its batch norm statistics those of the images; `ranges` is empty."""
    found = Small(small.images, *(tmp_path_factory.mktemp(f"thin_{name}") for name in ("model", "onnx", "ranges")))
    torch.manual_seed(0)
    spec = narrow(family_spec("resnet18", num_classes=10, in_channels=1))
    network = ResNet(spec)
    reestimate(network, (x for x, _ in batches(Split(found.images, "train"), 64)))
    save(network.eval(), spec, found.model)
    export_onnx(Export(), found.onnx, model=found.model, images=found.images)
    return found
