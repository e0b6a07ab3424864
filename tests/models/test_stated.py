"""What a checkpoint says of its images, what is said about it in notes, and which heads are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.checkpoint import Load, load, load_checkpoint
from models.resnet import ResNet
from tests.models.narrow import Backbone, Holder, children, held, images, network, read_user_checkpoint
from tests.models.test_wrapped import FORMS

MEAN, STD = [0.3, 0.4, 0.5], [0.1, 0.2, 0.25]


def state(model: nn.Module) -> dict[str, Any]:
    return dict(model.state_dict())


def normalising(*shape: int, scale: float = 1, names: tuple[str, str] = ("mean", "std")) -> nn.Module:
    layer = nn.Module()
    for name, values in zip(names, (MEAN, STD), strict=True):
        layer.register_buffer(name, torch.tensor(values).mul(scale).reshape(shape or (3,)))
    return layer


STATED: dict[str, Callable[[ResNet], Any]] = {
    "normalize. in front of model.": lambda m: state(Holder("model", m, normalize=normalising(1, 3, 1, 1))),
    "a Sequential": lambda m: state(nn.Sequential(normalising(3, 1, 1), m)),
    "a Sequential of numbered children": lambda m: state(nn.Sequential(normalising(3, 1, 1), children(m))),
    "DDP": lambda m: {"state_dict": state(held(Holder("model", m, normalize=normalising()), "module"))},
    "0 to 255": lambda m: state(Holder("model", m, normalize=normalising(1, 3, 1, 1, scale=255))),
    "the robustness library": lambda m: {"model": state(held(Holder(
        "model", m, normalizer=normalising(3, 1, 1, names=("new_mean", "new_std")),
        attacker=Holder("model", m, normalize=normalising(3, 1, 1, names=("new_mean", "new_std"))),
    ), "module"))},
    "pixel_mean of a backbone with a head": lambda m: state(Holder("net", Backbone(m)))
        | {"pixel_mean": 255 * torch.tensor(MEAN), "pixel_std": 255 * torch.tensor(STD)},
    "in the network": lambda m: state(m) | {"mean": torch.tensor(MEAN).view(1, 3, 1, 1), "std": torch.tensor(STD).view(1, 3, 1, 1)},
    "mu and sigma": lambda m: state(m) | {"mu": torch.tensor(MEAN), "sigma": torch.tensor(STD)},
    "numbers beside the weights": lambda m: {"state_dict": state(m), "mean": MEAN, "std": STD},
    "arrays beside the weights": lambda m: {"state_dict": state(m), "norm": {"mean": np.array(MEAN), "std": np.array(STD)}},
    "hyper-parameters": lambda m: {"state_dict": state(m), "hyper_parameters": {"image_mean": tuple(MEAN), "image_std": tuple(STD)}},
    "a whole module": lambda m: Holder("model", m, normalize=normalising(1, 3, 1, 1)),
}  # fmt: skip


def loaded(content: Any, folder: Path, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    """preprocess.json and the notes of the stage."""
    torch.save(content, folder / "a.pth")
    out = folder / "out"
    out.mkdir()
    metrics = load_checkpoint(Load(arch="resnet18", **settings), out, checkpoint=folder / "a.pth")
    return json.loads((out / "preprocess.json").read_text())["given"], metrics["notes"]


@pytest.mark.parametrize("form", STATED)
def test_the_normalisation_in_a_checkpoint_becomes_that_of_its_images(form: str, tmp_path: Path) -> None:
    given, notes = loaded(STATED[form](network()), tmp_path)
    assert given["mean"] == pytest.approx(MEAN) and given["std"] == pytest.approx(STD)
    assert any("--mean 0.3,0.4,0.5 --std 0.1,0.2,0.25" in note for note in notes)
    assert not any("left out" in note and "mean" in note for note in notes)


def test_a_file_beside_the_checkpoint_goes_before_what_is_inside(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text('{"mean": [0.5, 0.5, 0.5]}')
    given, _ = loaded(STATED["a Sequential"](network()), tmp_path)
    assert given["mean"] == [0.5, 0.5, 0.5] and given["std"] == pytest.approx(STD)


TRANSFORMERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ConvNextImageProcessor": ({"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 224}, "crop_pct": 0.9, "resample": 3},
                               {"mean": MEAN, "std": STD, "input_size": 224, "crop_pct": 0.9, "interpolation": "bicubic"}),
    "a number as its size": ({"image_mean": MEAN, "image_std": STD, "size": 224, "resample": 2},
                             {"mean": MEAN, "std": STD, "input_size": 224, "crop_pct": 0.875, "interpolation": "bilinear"}),
    "large": ({"do_normalize": False, "size": {"shortest_edge": 384}}, {"mean": [0.0], "std": [1.0], "input_size": 384, "resize": "squash"}),
    "height and width": ({"image_mean": MEAN, "image_std": STD, "size": {"height": 96, "width": 96}},
                         {"mean": MEAN, "std": STD, "input_size": 96, "resize": "squash"}),
    "a crop": ({"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
               {"mean": MEAN, "std": STD, "input_size": 224, "resize": 256}),
}  # fmt: skip


@pytest.mark.parametrize("form", TRANSFORMERS)
def test_a_preprocessor_of_transformers_is_read(form: str, tmp_path: Path) -> None:
    content, expected = TRANSFORMERS[form]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert loaded(state(network()), tmp_path)[0] == expected


def test_a_checkpoint_that_says_nothing_gives_nothing(tmp_path: Path) -> None:
    content = {"state_dict": state(network()), "args": {"mean": None, "std": None}, "scores": {"mean": 0.9, "std": 0.1}}
    given, notes = loaded(content, tmp_path)
    assert given == {} and not any("normalisation" in note for note in notes)


def test_a_normalisation_on_no_known_scale_is_refused(tmp_path: Path) -> None:
    content = state(network()) | {"mean": torch.tensor([-3.0, 0, 0]), "std": torch.ones(3)}
    with pytest.raises(ValueError, match=r"normalises with mean \[-3.0, 0.0, 0.0\].*pass --mean and --std"):
        loaded(content, tmp_path)


@pytest.mark.parametrize("stated", [False, True])
def test_another_epsilon_gives_the_same_logits(stated: bool, tmp_path: Path) -> None:
    model = network()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    _, notes = loaded(model if stated else state(model), tmp_path, **({} if stated else {"bn_eps": 1e-3}))
    assert any("have epsilon 0.001" in note for note in notes)
    with torch.inference_mode():
        torch.testing.assert_close(load(tmp_path / "out")[0](images()), model(images()), rtol=1e-5, atol=1e-5)


NOTED = {
    "EMA without buffers": ["The checkpoint has ema and model: ema was used.", "ema has no running statistics: those of model were taken."],
    "EMA without buffers in one state_dict": ["The checkpoint has model_ema and model: model_ema was used."],
    "AveragedModel beside the model": ["The checkpoint has swa_model.module and model: swa_model.module was used."],
    "the same network twice": ["The checkpoint has model.module.model and model.module.attacker.model: model.module.model was used."],
    "an unused auxiliary head": ["4 tensors of the checkpoint do not belong to the network and were not used: aux_head.weight, aux_head.bias, projector.weight, projector.bias."],
}  # fmt: skip


@pytest.mark.parametrize("form", NOTED)
def test_the_choice_is_noted(form: str, tmp_path: Path) -> None:
    torch.save(FORMS[form](network()), tmp_path / "a.pth")
    _, _, notes = read_user_checkpoint(tmp_path / "a.pth", "resnet18")
    assert set(NOTED[form]) <= set(notes)


def linear(outputs: int, inputs: int, name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(outputs, inputs), f"{name}.bias": torch.zeros(outputs)}


def without_head(model: ResNet, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}{n}": t for n, t in state(model).items() if not n.startswith("fc.")}


REFUSED: dict[str, tuple[Callable[[ResNet], Any], str]] = {
    "a classifier behind the whole network": (lambda m: state(Holder("backbone", m)) | linear(2, 5, "classifier"), "2 layers (backbone.fc, classifier): backbone.fc [5, 20], classifier [2, 5]"),
    "the same, of another name": (lambda m: state(Holder("backbone", m)) | linear(2, 5, "adapter"), "2 layers (backbone.fc, adapter)"),
    "the same, in a Sequential": (lambda m: state(nn.Sequential(m, nn.Linear(5, 2))), "2 layers (0.fc, 1)"),
    "the same, wrapped": (lambda m: {"state_dict": state(held(Holder("model", m, out=nn.Linear(5, 2)), "module"))}, "2 layers (state_dict.module.model.fc, state_dict.module.out)"),
    "an embedding before it": (lambda m: without_head(m, "backbone.") | linear(6, 20, "embedding") | linear(5, 6, "fc"), "2 layers (embedding, fc)"),
    "an MLP": (lambda m: without_head(m, "backbone.") | linear(6, 20, "head.0") | linear(5, 6, "head.3"), "2 layers (head.0, head.3)"),
    "two tasks": (lambda m: without_head(m, "backbone.") | linear(6, 20, "head.colour") | linear(5, 20, "head.shape"), "2 classifiers (head.colour, head.shape)"),
    "an unused fc beside the head": (lambda m: state(Holder("backbone", m)) | linear(2, 20, "classifier"), "2 classifiers (backbone.fc, classifier)"),
    "a norm before it": (lambda m: state(Holder("backbone", m, neck=nn.BatchNorm1d(20))), "has a norm beside the classifier backbone.fc (neck), which"),
    "a layer norm before it": (lambda m: state(Holder("backbone", m, neck=nn.LayerNorm(20))), "has a norm beside the classifier backbone.fc (neck), which"),
    "a convolution before it": (lambda m: state(Holder("net", m, neck=nn.Conv2d(20, 20, 3))), "2 layers (net.fc, neck)"),
    "only an auxiliary head": (lambda m: without_head(m, "project.net.") | linear(5, 20, "project.aux_head"), "has no classifier (none of fc, head"),
    "one logit": (lambda m: without_head(m) | linear(1, 20, "fc"), "has one logit (fc.weight is [1, 20]: a sigmoid for two classes, or a regression)"),
    "no global pooling": (lambda m: without_head(m) | linear(5, 980, "fc"), "takes 980 numbers, 49 for each of 20 channels"),
    "two networks": (lambda m: {"state_dict": state(Holder("student", m, teacher=network(1)))}, "holds 2 networks (state_dict.student., state_dict.teacher.)"),
    "one backbone, two heads": (lambda m: {"a": state(Backbone(m)), "b": without_head(network(), "backbone.") | linear(2, 20, "classifier")}, "holds 2 networks (a.backbone., b.backbone.)"),
    "an unknown parametrization": (lambda m: without_head(m) | {"fc.parametrizations.weight.original": torch.ones(5, 20), "fc.bias": torch.ones(5)}, "has weights in parts (fc.parametrizations.weight.original), and"),
    "three stages": (lambda m: {n: t for n, t in state(m).items() if "layer4" not in n}, "basic blocks [2, 2, 2] in 1 groups, none of the family"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_for_certain_is_refused(case: str, tmp_path: Path) -> None:
    content, message = REFUSED[case]
    torch.save(content(network()), tmp_path / "a.pth")
    with pytest.raises(ValueError) as caught:
        read_user_checkpoint(tmp_path / "a.pth", "resnet18")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_two_classes_are_read(tmp_path: Path) -> None:
    torch.save(without_head(network()) | linear(2, 20, "fc"), tmp_path / "a.pth")
    assert read_user_checkpoint(tmp_path / "a.pth", "resnet18")[1].num_classes == 2
