"""How much a channel matters: the criteria that `prune` ranks channel groups by."""

from collections.abc import Iterable
from typing import Any, Literal

import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

Importance = Literal["l2", "taylor"]


def group_importance(name: Importance) -> Any:
    """torch-pruning's criterion `name`.

    "l2" is the norm of all weights that go with a channel (Li et al. 2017, arXiv:1608.08710, over the dependency group of
    Fang et al. 2023, arXiv:2301.12900); "taylor" the first-order loss change when it goes (Molchanov et al. 2019,
    arXiv:1906.10771), which needs gradients: see `accumulate_gradients`.
    """
    if name == "taylor":
        return tp.importance.GroupTaylorImportance()
    return tp.importance.GroupMagnitudeImportance(p=2)


def accumulate_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add the cross-entropy gradients of `batches` to `.grad`; the running statistics of batch norm stay as they are."""
    model.eval()
    model.zero_grad()
    for x, y in batches:
        functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
