"""A narrow resnet18 with random weights and statistics, and what people wrap around such a network."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import AnySpec, made_of
from models.resnet import ResNet, Spec
from models.user import read_user

State = dict[str, Tensor]
STAGES = (8, 12, 16, 20)
SPEC = Spec(
    arch="resnet18", block="basic", in_channels=3, num_classes=5, stem_width=8, widths=tuple(((w, w), (w, w)) for w in STAGES)
)


def network(seed: int = 0, spec: Spec = SPEC) -> ResNet:
    """Evaluation mode; no two of its parameters and statistics are alike."""
    torch.manual_seed(seed)
    model = ResNet(spec)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Backbone(nn.Module):
    """A backbone, and a classifier of some name beside it."""

    def __init__(self, model: ResNet, backbone: str = "backbone", head: str = "classifier") -> None:
        super().__init__()
        fc, model.fc = model.fc, nn.Identity()  # type: ignore[assignment]
        inside: nn.Module = fc
        *outer, last = head.split(".")
        inside = Holder(last, inside)
        for name in reversed(outer):
            inside = Holder(name, inside)
        self.add_module(backbone, model)
        for name, child in inside.named_children():
            self.add_module(name, child)


class Holder(nn.Module):
    """Holds `inside` under `name`, as DistributedDataParallel, a Lightning module and torch.compile do."""

    def __init__(self, name: str, inside: nn.Module, **others: Any) -> None:
        super().__init__()
        self.add_module(name, inside)
        for other, module in others.items():
            self.add_module(other, module)


def held(model: nn.Module, *names: str) -> nn.Module:
    """`model` inside modules that call it names[-1], names[-2], …"""
    for name in reversed(names):
        model = Holder(name, model)
    return model


def children(model: ResNet, flatten: bool = False, keep: int = 10) -> nn.Sequential:
    """nn.Sequential(*model.children()) with torchvision's order, where a Flatten may stand before the classifier."""
    layers = [model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2, model.layer3, model.layer4]
    layers += [model.avgpool, *([nn.Flatten(1)] if flatten else []), model.fc]
    return nn.Sequential(*layers[:keep])  # type: ignore[arg-type]


def read_user_checkpoint(path: Path, arch: str) -> tuple[nn.Module, AnySpec, list[str]]:
    """The network in the user's file `path` in evaluation mode, its spec, and the notes for the report."""
    spec, state, _, notes = read_user(path, arch)
    return made_of(spec, state), spec, notes
