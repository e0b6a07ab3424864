"""Published accuracies of pruned CIFAR-10 networks, as their sources give them."""

from typing import NamedTuple


class Published(NamedTuple):
    """`removed` is the share of the MACs, `base` and `pruned` are top-1, in percent; None where the source does not say it."""

    method: str
    removed: int
    base: float | None
    pruned: float
    epochs: int | None
    source: str


REPRODUCED = "Torch-Pruning, reproduce/readme.md"
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "resnet56": (
        Published("EagleEye", 50, None, 94.66, None, "its README, which calls the network ResNet-50; arXiv:2007.02491"),
        Published("CHIP", 50, 93.26, 94.16, 400, "arXiv:2110.13981"),
        Published("HRankPlus", 47, 93.26, 93.57, 150, "its README"),
        Published("torch-pruning, group L1", 53, 93.53, 92.93, 100, REPRODUCED),
        Published("DepGraph", 53, 93.53, 93.46, 100, REPRODUCED),
        Published("DepGraph with sparse learning", 53, 93.53, 93.77, 200, REPRODUCED),
        Published("ResRep", 53, 93.71, 93.71, 480, "arXiv:2007.03260"),
        Published("graph metanetwork", 56, 93.51, 94.08, 200, "arXiv:2506.12041"),
        Published("GReg-2", 61, 93.36, 93.36, 120, REPRODUCED),
        Published("C-SGD", 61, 93.39, 93.44, None, REPRODUCED),
        Published("DepGraph with sparse learning", 61, 93.53, 93.64, 200, REPRODUCED),
        Published("graph metanetwork", 66, 93.51, 93.69, 200, "arXiv:2506.12041"),
        Published("ATO", 66, 93.50, 93.48, 300, "arXiv:2506.12041"),
        Published("CHIP", 74, 93.26, 92.43, 400, "arXiv:2110.13981"),
        Published("HRankPlus", 74, 93.26, 92.32, 150, "its README"),
    ),
}
