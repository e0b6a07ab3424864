"""Products of matrices in place of 1x1 convolutions: same answers, same gradients, and gone afterwards."""

import torch

from compress.pointwise import as_products, is_pointwise
from models.resnet import ResNet, family_spec


def test_products_equal_convolutions_forwards_and_backwards() -> None:
    torch.manual_seed(0)
    model = ResNet(family_spec("resnet50", num_classes=5, in_channels=1))
    x = torch.randn(4, 1, 32, 32)

    def answer() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        logits = model.eval()(x)
        logits.square().sum().backward()
        return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    logits, gradients = answer()
    replaced = [m for m in model.modules() if is_pointwise(m)]
    assert len(replaced) == 36  # two in each of 16 blocks, and four projections
    with as_products(model, torch.device("cpu")):
        assert all("forward" in vars(m) for m in replaced)
        again, their_gradients = answer()
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(gradients, their_gradients, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-3 * float(mine.abs().max()))
    assert not any("forward" in vars(m) for m in replaced)
    with as_products(model, torch.device("cuda")):
        assert not any("forward" in vars(m) for m in replaced)
