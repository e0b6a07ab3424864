"""The family against the figures torchvision publishes."""

import pytest

from models.cost import cost
from models.resnet import BLOCKS, ResNet, family_spec

PUBLISHED = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
}


@pytest.mark.parametrize("arch", BLOCKS)
def test_params_and_macs_are_the_published_ones(arch: str) -> None:
    found = cost(ResNet(family_spec(arch)), (3, 224, 224))
    params, gmacs = PUBLISHED[arch]
    assert found["params"] == params
    assert round(found["macs"] / 1e9, 2) == pytest.approx(gmacs, abs=0.005)


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="resnet18, resnet34"):
        family_spec("resnet19")
