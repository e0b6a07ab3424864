"""Losses between the logits or the stages of a student and of its teacher: each is 0 where they are equal.

KL                Hinton et al. 2015 (arXiv:1503.02531)
squared logits    Kim et al. 2021 (arXiv:2105.08919): what KL becomes at a high temperature
DIST              Huang et al. 2022 (arXiv:2205.10536): compares the order of the classes, not the probabilities themselves
standardization   Sun et al. 2024 (arXiv:2403.01878): of logits, so that a student need not match their mean and scale
attention         Zagoruyko & Komodakis 2017 (arXiv:1612.03928): compares attention maps, which do not depend on the channels
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.resnet import ResNet


def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of logits [N, classes], summed over classes and averaged over the batch.

    `batchmean` matters: averaging over classes as well would silently divide alpha by their number.
    """
    log_p = functional.log_softmax(student.float() / temperature, dim=1)
    log_q = functional.log_softmax(teacher.float() / temperature, dim=1)
    return functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of logits [N, classes], over classes and batch.

    It is the limit of T² KL for large T, where the logits of an image have the same mean.
    """
    return (student.float() - teacher.float()).square().mean() / 2


def dist(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² (2 - mean correlation per image over the classes - mean correlation per class over the batch), of probabilities at T.

    Takes logits [N, classes]. Values that do not vary (a batch of one image) have correlation 0.
    """
    p = functional.softmax(student.float() / temperature, dim=1)
    q = functional.softmax(teacher.float() / temperature, dim=1)
    return (2 - correlation(p, q).mean() - correlation(p.T, q.T).mean()) * temperature**2


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each row: [N, M], [N, M] -> [N]."""
    centred = [functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in (a, b)]
    return (centred[0] * centred[1]).sum(1)


def standardized(logits: Tensor) -> Tensor:
    """Logits [N, classes] with mean 0 and standard deviation 1 over the classes of every image."""
    centred = logits.float() - logits.float().mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    return centred / (variance + 1e-12).sqrt()  # inside the root: otherwise the gradient of equal logits is NaN


def attention_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Squared distance between attention maps, averaged over images and stages: 0 … 2 for all widths and resolutions.

    Takes the outputs of all stages, [N, C, H, W] with one H, W per stage. The output of a stage with a single pixel adds 0.
    """
    distances = [(attention(mine) - attention(its)).square().sum(1).mean() for mine, its in zip(student, teacher, strict=True)]
    return torch.stack(distances).mean()


def attention(features: Tensor) -> Tensor:
    """Mean square over the channels of [N, C, H, W], as unit vectors [N, H W]."""
    return functional.normalize(features.float().square().mean(1).flatten(1), dim=1)


def with_stages(network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits of `network` for `x`, and the outputs of its stages."""
    assert isinstance(network, ResNet)
    seen: list[Tensor] = []
    layers = [network.get_submodule(f"layer{stage + 1}") for stage in range(network.stages)]
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output)) for layer in layers]
    try:
        return network(x), seen
    finally:
        for hook in hooks:
            hook.remove()
