"""Networks inside wrappers, under other names, in parts: read with the logits that the original has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from models.resnet import ResNet
from tests.models.narrow import Backbone, Holder, children, held, images, network, read_user_checkpoint

HEADS = [
    "fc",
    "head",
    "classifier",
    "linear",
    "last_linear",
    "logits",
    "cls",
    "head.fc",
    "classifier.1",
    "model_head.out",
    "mine",
]


def state(model: nn.Module) -> dict[str, Any]:
    return dict(model.state_dict())


def with_fc(model: nn.Module, **layers: nn.Module) -> nn.Module:
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def renamed(model: nn.Module, *changes: tuple[str, str]) -> dict[str, Any]:
    content = {}
    for name, tensor in model.state_dict().items():
        for old, new in changes:
            name = name.replace(old, new)
        content[name] = tensor
    return content


def hugging_face(model: ResNet) -> dict[str, Any]:
    """The names of transformers' ResNetForImageClassification."""
    content = {}
    for name, tensor in model.state_dict().items():
        first, *rest = name.split(".")
        if first.startswith("layer"):
            block, what, *tail = rest
            start = f"resnet.encoder.stages.{int(first[5:]) - 1}.layers.{block}."
            if what == "downsample":
                name = start + "shortcut." + ("convolution." if tail[0] == "0" else "normalization.") + tail[1]
            else:
                kind = "convolution" if what.startswith("conv") else "normalization"
                name = f"{start}layer.{int(what[-1]) - 1}.{kind}.{tail[0]}"
        else:
            changed = {"conv1": "resnet.embedder.embedder.convolution", "bn1": "resnet.embedder.embedder.normalization"}
            name = ".".join([changed.get(first, "classifier.1"), *rest])
        content[name] = tensor
    return content


def parameters_only(model: nn.Module) -> dict[str, Any]:
    return dict(model.named_parameters())


def biased(model: ResNet) -> dict[str, Any]:
    """Biases of convolutions, which the running means of the batch norms take back."""
    content = state(model)
    for name in [name for name in content if name.endswith("running_mean")]:
        convolution = name.replace("bn", "conv").replace("downsample.1", "downsample.0")
        bias = torch.randn(len(content[name]), generator=torch.Generator().manual_seed(0))
        content[convolution.replace("running_mean", "bias")] = bias
        content[name] = content[name] + bias
    return content


FORMS: dict[str, Callable[[ResNet], Any]] = {
    **{f"head {name}": lambda m, name=name: state(Backbone(m, head=name)) for name in HEADS},  # type: ignore[misc]
    "DDP around Lightning around MMPretrain": lambda m: {"state_dict": state(held(Backbone(m, head="head.fc"), "module", "model"))},
    "wrappers with the names of heads": lambda m: state(held(Backbone(m), "project", "head")),
    "torch.compile of the backbone alone": lambda m: renamed(held(Backbone(m), "model"), ("backbone.", "backbone._orig_mod.")),
    "torch.compile of one stage": lambda m: renamed(m, ("layer2.", "layer2._orig_mod.")),
    "FSDP of every block": lambda m: renamed(m, (".conv", "._fsdp_wrapped_module.conv"), (".bn", "._fsdp_wrapped_module.bn")),
    "DDP of the backbone alone": lambda m: renamed(Backbone(m), ("backbone.", "backbone.module.")),
    "parts saved apart": lambda m: apart(Backbone(m)),
    "network, state": lambda m: {"network": {"state": state(m), "step": 5}, "epoch": 3},
    "a tuple": lambda m: (3, state(m)),
    "best_prec1 and linear": lambda m: {"state_dict": renamed(held(m, "module"), ("fc.", "linear."), ("downsample.", "shortcut.")), "best_prec1": 91.2},
    "children": lambda m: state(children(m)),
    "children with Flatten": lambda m: state(children(m, flatten=True, keep=11)),
    "children behind features.": lambda m: state(Holder("features", children(m, keep=9), fc=m.fc)),
    "children behind backbone. and classifier.1": lambda m: state(Holder("backbone", children(m, keep=8), classifier=nn.Sequential(nn.Dropout(), m.fc))),
    "children, Flatten and Linear in a Sequential": lambda m: state(nn.Sequential(children(m, keep=9), nn.Flatten(), m.fc)),
    "Hugging Face": hugging_face,
    "SyncBN": lambda m: state(nn.SyncBatchNorm.convert_sync_batchnorm(m)),
    "EMA without buffers": lambda m: {"model": state(network(1)) | statistics(m), "ema": parameters_only(m)},
    "EMA without buffers in one state_dict": lambda m: {f"model.{n}": t for n, t in (state(network(1)) | statistics(m)).items()} | {f"model_ema.{n}": t for n, t in parameters_only(m).items()},
    "AveragedModel beside the model": lambda m: {"model": state(network(1)), "swa_model": {"n_averaged": torch.tensor(3), **state(held(m, "module"))}},
    "the same network twice": lambda m: {"model": state(held(Holder("model", m, attacker=Holder("model", m)), "module")), "epoch": 3},
    "an optimizer beside it": lambda m: {"model": state(m), "optimizer": used(m)},
    "an unused auxiliary head": lambda m: state(with_fc(m, aux_head=nn.Linear(16, 5), projector=nn.Linear(20, 6))),
    "convolutions with biases": biased,
    "pruning masks": lambda m: state(changed(m, lambda x: prune.l1_unstructured(x, "weight", 0.5))),
    "weight_norm, old": lambda m: state(changed(m, nn.utils.weight_norm)),
    "weight_norm, parametrized": lambda m: state(changed(m, parametrizations.weight_norm)),
    "spectral_norm, old": lambda m: state(changed(m, nn.utils.spectral_norm)),
    "spectral_norm, parametrized": lambda m: state(changed(m, parametrizations.spectral_norm)),
}  # fmt: skip


def apart(whole: Backbone) -> dict[str, Any]:
    return {name: state(module) for name, module in whole.named_children()} | {"epoch": 3}


def statistics(model: nn.Module) -> dict[str, Any]:
    return dict(model.named_buffers())


def used(model: nn.Module) -> dict[str, Any]:
    """The state of an optimizer after a step."""
    optimizer = torch.optim.Adam(model.parameters())
    model(images()).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def changed(model: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            change(module)
    return model.eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_those_of_the_original(form: str, tmp_path: Path) -> None:
    model = network()
    content = FORMS[form](model)
    original = network()
    if "norm" in form or "mask" in form:
        original = model
    if "optimizer" in form:
        original.load_state_dict(content["model"])
    torch.save(content, tmp_path / "weights")
    read, spec, _ = read_user_checkpoint(tmp_path / "weights", "resnet18")
    assert spec.num_classes == 5
    with torch.inference_mode():
        torch.testing.assert_close(read(images()), original(images()), rtol=1e-4, atol=1e-4)
