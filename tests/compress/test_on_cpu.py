"""Layers that a CPU computes in a quicker way: same logits, same gradients, and gone afterwards."""

import pytest
import torch
from torch import Tensor, nn

from compress.cut import cut
from compress.on_cpu import is_narrow, is_pointwise, quick_on_cpu
from compress.plan import Cut
from models.blocks import PreactBlock
from models.resnet import ResNet, family_spec

CPU = torch.device("cpu")
CIFAR = family_spec("resnet20", num_classes=5)


def logits_and_gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    logits = model(x)
    logits.square().sum().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_products_equal_convolutions_forwards_and_backwards() -> None:
    torch.manual_seed(0)
    model = ResNet(family_spec("resnet50", num_classes=5, in_channels=1)).eval()
    replaced = [m for m in model.modules() if is_pointwise(m)]
    assert len(replaced) == 36  # two in each of 16 blocks, and four projections
    check_equal(model, torch.randn(4, 1, 32, 32), replaced)


@pytest.mark.parametrize("model", [
    pytest.param(cut(ResNet(CIFAR), CIFAR, Cut(pruning_ratio=0.5, round_to=4), (3, 32, 32)), id="resnet20"),
    pytest.param(nn.Sequential(nn.Conv2d(3, 9, 3), PreactBlock(9, (5, 9), 1, False)), id="pre-activation"),
])  # fmt: skip
def test_narrow_batch_norms_equal_torchs_and_update_the_same_statistics(model: nn.Module) -> None:
    torch.manual_seed(0)
    model.double().train()  # in float32 a ReLU near zero makes the gradients differ
    narrow = [m for m in model.modules() if is_narrow(m)]
    for norm in narrow:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    assert len(narrow) >= 2
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(8, 3, 32, 32).double().to(memory_format=torch.channels_last)
    model(x)
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    with quick_on_cpu(model, CPU):
        model(x)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, after[name], msg=name)
    check_equal(model, x, narrow)


def check_equal(model: nn.Module, x: Tensor, replaced: list[nn.Module]) -> None:
    """`model` computes and learns the same with quick layers in place of `replaced`, and has its own layers afterwards."""
    logits, gradients = logits_and_gradients(model, x)
    with quick_on_cpu(model, CPU):
        assert all("forward" in vars(m) for m in replaced)
        again, theirs = logits_and_gradients(model, x)
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))
    for mine, its in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(its, mine, rtol=1e-3, atol=1e-3 * float(mine.abs().max()))
    assert not any("forward" in vars(m) for m in model.modules())
    with quick_on_cpu(model, torch.device("cuda")):
        assert not any("forward" in vars(m) for m in model.modules())
