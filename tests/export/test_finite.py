"""Weights that are not finite numbers are refused with the layer that has them; huge ones are exported as they are."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from calibration.observe import Calibrate, observe
from calibration.place import NEUTRAL, place_qdq
from calibration.session import predict_logits
from data.loader import Split
from export.half import halved
from export.onnx import Export, export_onnx
from models.checkpoint import save
from models.resnet import ResNet, Spec
from tests.conftest import Small
from tests.export.test_half import scaled

TINY = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=8, widths=(((8, 8),),))


def exported(small: Small, folder: Path, changes: dict[str, float]) -> Path:
    """The folder with the ONNX file of a tiny network whose tensors have `changes` {name: value of channel 0}."""
    torch.manual_seed(0)
    network = ResNet(TINY).eval()
    with torch.no_grad():
        for name, value in changes.items():
            network.state_dict()[name][0] = value
    for name in ("model", "onnx", "ranges", "int8"):
        (folder / name).mkdir()
    save(network, TINY, folder / "model")
    export_onnx(Export(check_images=2), folder / "onnx", model=folder / "model", images=small.images)
    return folder / "onnx"


def first_norm() -> str:
    """The name of the first batch norm."""
    return next(str(name) for name, module in ResNet(TINY).named_modules() if isinstance(module, torch.nn.BatchNorm2d))


@pytest.mark.parametrize(("part", "value"), [("weight", math.nan), ("bias", math.inf), ("running_var", -1.0)])
def test_a_weight_that_is_not_finite_is_refused_with_its_layer(part: str, value: float, small: Small, tmp_path: Path) -> None:
    name = first_norm()
    with pytest.raises(ValueError, match=r"^layer \S+ has [\d,]+ values of \S+ that are NaN or infinite after batch norm was"):
        exported(small, tmp_path, {f"{name}.{part}": value})


@pytest.mark.parametrize(
    "changes",
    [{"weight": 1e6, "running_var": 0.0}, {"weight": 0.0, "bias": 3.0}, {"running_var": 1e30, "bias": -1e5}],
    ids=["huge fold", "dead channel", "vanishing fold"],
)
def test_extreme_folds_are_pressed_without_loss(changes: dict[str, float], small: Small, tmp_path: Path) -> None:
    name = first_norm()
    model = exported(small, tmp_path, {f"{name}.{part}": value for part, value in changes.items()})
    observe(Calibrate(images=16, held_out=16), tmp_path / "ranges", model=model, images=small.images)
    place_qdq(NEUTRAL, tmp_path / "int8", model=model, ranges=tmp_path / "ranges")
    x = Split(small.images, "test").__getitems__(list(range(16)))[0].numpy()
    expected, got = (predict_logits(onnx.load(folder / "model.onnx"), [x]) for folder in (model, tmp_path / "int8"))
    assert np.isfinite(got).all()
    assert np.abs(got - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 65536.0])
def test_what_float16_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"factor holds .*float16 ends at 65504"):
        halved(scaled(value))


@pytest.mark.parametrize("value", [65504.0, -65504.0, 2.0**-24, 6e-8, 1e-30])
def test_what_float16_can_hold_stays_finite_and_not_zero(value: float) -> None:
    stored = numpy_helper.to_array(halved(scaled(value)).graph.initializer[0]).astype(np.float64)
    assert np.isfinite(stored).all()
    assert stored[0] != 0
    assert np.sign(stored[0]) == np.sign(value)
