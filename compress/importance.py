"""The importance of a channel: the criteria that `prune` ranks channels by, each over the whole dependency group."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from compress.device import on_device

Importance = Literal["l1", "l2", "taylor", "fisher", "bn_scale", "fpgm", "random"]
GRADIENTS = ("taylor", "fisher")  # they need `accumulate_gradients` first


def group_importance(name: Importance, seed: int = 0) -> Callable[[Any], Tensor | None]:
    """torch-pruning's criterion `name`: a dependency group (Fang et al. 2023, arXiv:2301.12900) -> a score per channel.

    l1, l2     sum of the absolute or squared weights that go with a channel (Li et al. 2017, arXiv:1608.08710)
    taylor     first-order change of the loss, |weight x gradient| (Molchanov et al. 2019, arXiv:1906.10771)
    fisher     second-order change, weight² x mean squared gradient of an image: optimal brain damage (LeCun et al. 1989) with
               the empirical Fisher diagonal for the Hessian (Theis et al. 2018, arXiv:1801.05787)
    bn_scale   |scale| of the batch norms (Liu et al. 2017, arXiv:1708.06519); None for a group without any
    fpgm       distance to the other filters (He et al. 2019, arXiv:1811.00250); see `filter_distances`
    random     the control (Mittal et al. 2018, arXiv:1801.10447); the same for the same `seed`
    """
    if name == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    if name == "fpgm":
        return filter_distances
    criteria: dict[str, Callable[[], Callable[[Any], Tensor | None]]] = {
        "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
        "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "taylor": tp.importance.GroupTaylorImportance,
        "fisher": tp.importance.GroupHessianImportance,
        "bn_scale": tp.importance.BNScaleImportance,
    }
    return criteria[name]()


@torch.no_grad()
def filter_distances(group: Any) -> Tensor:
    """Euclidean distances to all other filters, summed over the layers that compute the channels of `group`: [width], mean 1.

    torch-pruning's FPGMImportance (1.6.1) is not used because it squares the weights first. For it, filters that differ only in
    their signs are equal, and a filter of zeros is far from all others, although it is in their middle.
    """
    total = torch.zeros(len(group[0].idxs))
    for item in group:
        if item.dep.handler in (tp.prune_conv_out_channels, tp.prune_depthwise_conv_out_channels, tp.prune_linear_out_channels):
            filters = item.dep.layer.weight[item.idxs].flatten(1)
            total.index_add_(0, torch.tensor(item.root_idxs), torch.cdist(filters, filters).sum(1).cpu())
    return total / total.mean()


def accumulate_gradients(name: Importance, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Write to `.grad` what criterion `name` reads there; the running statistics of batch norm do not change.

    "taylor": the gradients of the cross-entropy, summed over `batches`. "fisher": the squared gradients of each image, summed.
    GroupHessianImportance.accumulate_grad is not used because it keeps only the last image (torch-pruning 1.6.1). Scores are
    relative to the mean of their group, so sums are as good as means. A missing gradient counts as zero. Other criteria read
    no gradients.
    """
    if name not in GRADIENTS:
        return
    model.eval()
    with on_device(model) as device:
        total = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
        for x, y in batches:
            size = 1 if name == "fisher" else len(x)
            for image, label in zip(torch.split(x.to(device), size), torch.split(y.to(device), size), strict=True):
                model.zero_grad()
                functional.cross_entropy(model(image), label).backward()  # type: ignore[no-untyped-call]
                for parameter, kept in total.items():
                    if parameter.grad is not None:
                        kept += parameter.grad**2 if name == "fisher" else parameter.grad
        for parameter, kept in total.items():
            parameter.grad = kept
