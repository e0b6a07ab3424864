"""How much of each relative of the family the engines for CPUs execute in integers, as they themselves tell."""

from pathlib import Path

import pytest
import torch

from calibration.observe import Calibrate, observe
from calibration.place import place_qdq
from export import targets
from export.onnx import Export, export_onnx
from models.checkpoint import save
from models.resnet import ResNet, Spec
from tests.conftest import Small
from tests.placements import placement_of

BASIC = Spec(
    arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=16, widths=(((16, 16), (16, 16)), ((32, 32),))
)
BOTTLENECK = BASIC.model_copy(update={"block": "bottleneck", "widths": (((16, 16, 64), (16, 16, 64)), ((32, 32, 128),))})
KINDS = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "grouped": BOTTLENECK.model_copy(update={"groups": 4}),
    "preact": BOTTLENECK.model_copy(update={"preact": True}),
    "padded": BASIC.model_copy(update={"shortcut": "padding", "stem": "small"}),
    "split": BASIC.model_copy(update={"block": "split", "widths": (((64, 16, 16, 16, 64),) * 2, ((128, 32, 32, 32, 128),))}),
}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_block_runs_in_integers(kind: str, name: str, small: Small, tmp_path: Path) -> None:
    target = targets.get(name)
    if reason := target.unavailable():
        pytest.skip(reason)
    folders = {name: tmp_path / name for name in ("model", "onnx", "ranges", "int8", "engine")}
    for folder in folders.values():
        folder.mkdir()
    torch.manual_seed(0)
    save(ResNet(KINDS[kind]).eval(), KINDS[kind], folders["model"])
    export_onnx(Export(), folders["onnx"], model=folders["model"], images=small.images)
    observe(Calibrate(images=32), folders["ranges"], model=folders["onnx"], images=small.images)
    place_qdq(placement_of(name), folders["int8"], model=folders["onnx"], ranges=folders["ranges"])
    built = target.build(target.Options(), folders["engine"], model=folders["int8"], images=small.images)
    assert built["int8_share"] == 1.0
