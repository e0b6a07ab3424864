"""Oracles of pruning."""

import pytest
import torch

from compress.cut import cut
from compress.prune import Prune
from models.cost import cost
from models.resnet import ResNet, blocks_of, family_spec, spec_of


def test_pruning_zero_channels_leaves_the_logits_identical() -> None:
    torch.manual_seed(0)
    spec = family_spec("resnet18", num_classes=7, in_channels=1)
    model = ResNet(spec).eval()
    for blocks in blocks_of(model):
        for block in blocks:
            half = block.conv1.out_channels // 2
            with torch.no_grad():
                block.conv1.weight[half:] = 0
                block.bn1.weight[half:] = 0
                block.bn1.bias[half:] = 0
                block.conv2.weight[:, half:] = 0
    x = torch.randn(3, 1, 32, 32)
    pruned = cut(model, spec, Prune(pruning_ratio=0.5, residual=False), (1, 32, 32))
    with torch.inference_mode():
        torch.testing.assert_close(pruned(x), model(x), rtol=1e-5, atol=1e-5)
    rebuilt = ResNet(spec_of(pruned, spec)).eval()
    rebuilt.load_state_dict(pruned.state_dict())
    assert rebuilt.layer1[0].conv1.out_channels == 32
    with torch.inference_mode():
        assert torch.equal(rebuilt(x), pruned(x))


@pytest.mark.slow
def test_a_higher_ratio_never_gives_a_larger_network() -> None:
    torch.manual_seed(0)
    spec = family_spec("resnet18", num_classes=10, in_channels=1)
    model = ResNet(spec).eval()
    costs = [
        cost(cut(model, spec, Prune(pruning_ratio=ratio / 100), (1, 32, 32)), (1, 32, 32))
        for ratio in (50, 70, 75, 76, 80, 85, 89)
    ]
    for smaller, larger in zip(costs[1:], costs, strict=False):
        assert smaller["params"] <= larger["params"] and smaller["macs"] <= larger["macs"]
    assert costs[-1]["params"] < costs[2]["params"]
