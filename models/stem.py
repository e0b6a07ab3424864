"""Which stem a network for small images has, what it costs, and what the literature takes."""

import torch

from models.cost import cost
from models.resnet import ResNet, Spec, Stem

SMALL_SIDE = 64  # pixels
FORMS = {"imagenet": "7x7, stride 2, max pooling", "small": "3x3, stride 1, no pooling"}


def stem_notes(spec: Spec, shape: tuple[int, int, int]) -> list[str]:
    """A note about the stem where the images of `shape` [C, H, W] have at most 64 pixels a side."""
    _, height, width = shape
    if max(height, width) > SMALL_SIDE:
        return []
    taken = f"The stem is {spec.stem!r} ({FORMS[spec.stem]}): {spec.arch} has {millions(spec, spec.stem, shape)} M MACs"
    size = f"for images of {height}x{width} pixels"
    if spec.stem == "small":
        return [f"{taken}. This is the stem of the literature {size}."]
    other = f"{FORMS['small']}, {millions(spec, 'small', shape)} M MACs"
    return [f"{taken}. The literature takes 'small' {size} ({other}): pass --stem small to compare with it."]


def millions(spec: Spec, stem: Stem, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates for one image with `stem`, in millions."""
    with torch.device("meta"):
        network = ResNet(spec.model_copy(update={"stem": stem}))
    return round(cost(network, shape)["macs"] / 1e6)
