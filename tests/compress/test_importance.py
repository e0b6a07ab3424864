"""Criteria against what they say they are, and against channels that are known to be useless."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.cut import cut
from compress.groups import scores_of
from compress.importance import GRADIENTS, Importance, accumulate_gradients, group_importance
from compress.plan import Scope
from compress.prunable import prunable
from compress.prune import Prune
from models.batchnorm import reestimate
from models.resnet import ResNet, Spec, blocks_of

SHAPE = (1, 16, 16)
SPEC = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=5, stem_width=32, widths=(((32, 32),), ((64, 64),)))
LOOKING: tuple[Importance, ...] = ("l1", "l2", "taylor", "fisher", "bn_scale", "fpgm")


def network_of(seed: int = 0) -> ResNet:
    """Untrained, with batch norm scales and biases that differ; the biases keep every channel alive."""
    torch.manual_seed(seed)
    network = ResNet(SPEC).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.5, 1.0)
    reestimate(network, (x for x, _ in images()))
    return network


def images(n: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(n, *SHAPE, generator=generator), torch.randint(5, (n,), generator=generator)
    return [(x[:8], y[:8]), (x[8:], y[8:])]


def silence(network: ResNet, channels: Tensor) -> None:
    """Make those channels inside the blocks useless: nothing writes them and nothing reads them."""
    with torch.no_grad():
        for blocks in blocks_of(network):
            for block in blocks:
                these = channels[channels < block.conv1.out_channels]
                for tensor in block.conv1.weight, block.bn1.weight, block.bn1.bias:
                    tensor[these] = 0
                block.conv2.weight[:, these] = 0


def scores(network: ResNet, name: Importance, group: str) -> Tensor:
    accumulate_gradients(name, network, images())
    groups = prunable(network, SPEC, Prune(residual=False), SHAPE)
    return scores_of(groups, group_importance(name))[group]


@pytest.mark.parametrize("name", LOOKING)
def test_pruning_channels_of_zeros_leaves_the_logits_identical(name: Importance) -> None:
    network = network_of()
    silence(network, torch.arange(0, 64, 2))
    accumulate_gradients(name, network, images())
    pruned = cut(network, SPEC, Prune(pruning_ratio=0.5, importance=name, residual=False), SHAPE)
    assert [len(pruned.get_parameter(f"{layer}.0.conv1.weight")) for layer in ("layer1", "layer2")] == [16, 32]
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(pruned(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LOOKING)
def test_a_useless_channel_ranks_last(name: Importance) -> None:
    network = network_of()
    silence(network, torch.tensor([7]))
    found = scores(network, name, "layer2.0.conv1")
    assert found.argmin() == 7 and found.sort().values[1] > found[7]


def test_fpgm_is_the_distance_to_the_other_filters_of_all_layers_that_make_the_channel() -> None:
    network = network_of()
    accumulate_gradients("fpgm", network, images())
    groups = prunable(network, SPEC, Prune(), SHAPE)
    found = scores_of(groups, group_importance("fpgm"))["layer2.0.conv2"]
    expected = torch.zeros(64)
    for convolution in network.layer2[0].conv2, network.layer2[0].downsample[0]:
        filters = convolution.weight.detach().flatten(1)
        expected += (filters[:, None] - filters[None]).norm(dim=2).sum(1)
    torch.testing.assert_close(found, expected / expected.mean())


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_random_is_reproducible_and_differs_by_seed(scope: Scope) -> None:
    network = network_of()

    def pruned(seed: int) -> dict[str, Tensor]:
        torch.rand(seed + 1)  # what others draw does not matter
        return cut(
            network, SPEC, Prune(pruning_ratio=0.5, importance="random", scope=scope, seed=seed, steps=2), SHAPE
        ).state_dict()

    first, again, other = pruned(0), pruned(0), pruned(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(first[key].shape != other[key].shape or not torch.equal(first[key], other[key]) for key in first)


def test_fisher_is_the_mean_squared_gradient_of_single_images() -> None:
    network = network_of()
    accumulate_gradients("fisher", network, images())
    found = network.layer1[0].conv1.weight.grad
    assert found is not None
    expected = torch.zeros_like(found)
    for x, y in images():
        for image, label in zip(x, y, strict=True):
            loss = functional.cross_entropy(network(image[None]), label[None])
            expected += torch.autograd.grad(loss, network.layer1[0].conv1.weight)[0] ** 2
    torch.testing.assert_close(found, expected)


def test_taylor_and_fisher_see_that_nobody_reads_a_channel_of_large_weights() -> None:
    """Weights alone do not tell: the filter is large, and so is what reads it, but its batch norm lets nothing through."""
    network = network_of()
    with torch.no_grad():
        network.layer2[0].conv1.weight[9] *= 10
        network.layer2[0].conv2.weight[:, 9] *= 10
        network.layer2[0].bn1.weight[9] = 0
        network.layer2[0].bn1.bias[9] = -1
    assert scores(network, "l2", "layer2.0.conv1").argmax() == 9
    for name in GRADIENTS:
        found = scores(network, name, "layer2.0.conv1")
        assert found.argmin() == 9 and found[9] == 0


def test_no_gradient_counts_as_zero_and_statistics_stay() -> None:
    network = network_of()
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    before = network.bn1.running_mean.clone()
    accumulate_gradients("taylor", network, images())
    unused = network.get_parameter("unused").grad
    assert unused is not None and not unused.any()
    assert torch.equal(network.bn1.running_mean, before)


def test_bn_scale_without_batch_norm_is_refused() -> None:
    network = network_of()
    for blocks in blocks_of(network):
        for block in blocks:
            for name, module in block.named_modules():
                if isinstance(module, nn.BatchNorm2d):
                    block.set_submodule(name, nn.Identity())
    network.bn1 = nn.Identity()
    with pytest.raises(ValueError, match="importance 'bn_scale' ranks by batch norm and MODEL resnet18 has none"):
        cut(network, SPEC, Prune(pruning_ratio=0.5, importance="bn_scale"), SHAPE)
