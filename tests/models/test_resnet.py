"""The family against published figures: torchvision's model pages; for Res2Net and the pre-activation networks, which
torchvision has not, timm's benchmark tables (M parameters, GMACs, rounded to two decimals)."""

import pytest
import torch

from models.cost import cost
from models.resnet import FAMILY, ResNet, family_spec, initialise

EXACT = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
    "resnext50_32x4d": (25_028_904, 4.23),
    "resnext101_32x8d": (88_791_336, 16.41),
    "resnext101_64x4d": (83_455_272, 15.46),
    "wide_resnet50_2": (68_883_240, 11.40),
    "wide_resnet101_2": (126_886_696, 22.75),
}
# timm counts the multiplications of pooling and norms, too: its GMACs are up to 0.03 higher (resnet50: 4.11 for 4.09).
ROUNDED = {
    "res2net50_26w_4s": (25.70, 4.28),
    "res2net101_26w_4s": (45.21, 8.10),
    "resnetv2_50": (25.55, 4.11),
    "resnetv2_101": (44.54, 7.83),
}


# He et al. 2015, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 M parameters, option A. Exact, and M multiply-accumulates at 32x32:
# those of akamaster/pytorch_resnet_cifar10.
CIFAR = {
    "resnet20": (269_722, 40.6),
    "resnet32": (464_154, 68.9),
    "resnet44": (658_586, 97.2),
    "resnet56": (853_018, 125.5),
    "resnet110": (1_727_962, 252.9),
}


def on_paper(arch: str, num_classes: int = 1000) -> ResNet:
    with torch.device("meta"):
        return ResNet(family_spec(arch, num_classes=num_classes))


@pytest.mark.parametrize("arch", EXACT)
def test_params_and_macs_are_the_published_ones(arch: str) -> None:
    found = cost(on_paper(arch), (3, 224, 224))
    params, gmacs = EXACT[arch]
    assert found["params"] == params
    assert round(found["macs"] / 1e9, 2) == pytest.approx(gmacs, abs=0.005)


@pytest.mark.parametrize("arch", ROUNDED)
def test_params_and_macs_are_those_of_timms_tables(arch: str) -> None:
    found = cost(on_paper(arch), (3, 224, 224))
    params, gmacs = ROUNDED[arch]
    assert round(found["params"] / 1e6, 2) == params
    assert found["macs"] / 1e9 == pytest.approx(gmacs - 0.015, abs=0.02)


@pytest.mark.parametrize("arch", CIFAR)
def test_params_and_macs_of_the_networks_for_cifar_are_the_published_ones(arch: str) -> None:
    found = cost(on_paper(arch, 10), (3, 32, 32))
    assert (found["params"], round(found["macs"] / 1e6, 1)) == CIFAR[arch]


@pytest.mark.parametrize("arch", FAMILY)
def test_an_initialised_block_is_the_identity_where_it_can_be(arch: str) -> None:
    torch.manual_seed(0)
    model = ResNet(family_spec(arch, num_classes=3, stem="small")).eval()
    initialise(model)
    block = model.layer2[1]
    x = torch.rand(1, block.convolutions()[0].in_channels, 4, 4)  # positive: the ReLU behind the addition keeps it
    torch.testing.assert_close(block(x), x)
    block.skipped = True
    assert block(x) is x


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="resnet18, resnet34"):
        family_spec("resnet19")
