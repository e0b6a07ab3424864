"""A trained model + images of other classes -> the model with a classifier for them (model.json, model.safetensors).

The features that the model has learned are kept (Yosinski et al. 2014, arXiv:1411.1792: features transfer). The new classifier
has a higher learning rate than the rest. Frozen layers keep their batch norm statistics, too.
"""

import time
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compress.device import device_and_precision
from compress.features import check_channels, features_of, head_of
from compress.fit import Loss, Task, dataset_of, fit, tidy
from compress.schedule import Schedule
from compress.top1 import top1
from core import ranks
from data.loader import Split
from models.checkpoint import load, save
from models.resnet import ResNet, blocks_of
from models.sidecar import write_beside


class Transfer(Schedule):
    """How a trained model learns new classes.

    new_head           replace the classifier even where the classes seem to be the same
    trainable_blocks   0 trains only the classifier, on features that are computed once, without augmentation; n trains also the
                       last n residual blocks and all that follows them (with all blocks, only the stem is frozen); None trains
                       everything
    head_lr            learning rate of the classifier, by default 10 lr; `lr` is that of all other layers
    """

    epochs: int = Field(default=5, ge=0)
    batch_size: int = Field(default=64, gt=1)
    lr: float = Field(default=0.01, gt=0)
    head_lr: float | None = Field(default=None, gt=0)
    trainable_blocks: int | None = Field(default=None, ge=0)
    new_head: bool = False
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


@ranks.together
def transfer(config: Transfer, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Train `model` on the training images, with a new classifier when it has another number of classes.

    Raises ValueError when there is nothing to train on, the images have another number of channels, a new classifier would not
    be trained, `trainable_blocks` is set for a network outside of the ResNet family, or the loss is no longer finite.
    """
    started = time.perf_counter()
    network, spec = load(model)
    dataset = dataset_of(images)
    check_channels(spec.in_channels, dataset)
    classes = len(dataset["classes"])
    name, head = head_of(network, spec)
    replaced = config.new_head or classes != spec.num_classes or dataset["same_classes"] is False
    notes = []
    if not replaced and dataset["same_classes"] is None:
        notes = [
            f"The classifier was kept, because it also has {classes} outputs. If they stand for other classes, pass "
            "--set transfer.new_head=true."
        ]
    if replaced:
        if not config.epochs:
            raise ValueError(
                f"epochs = 0 would leave the new classifier ({spec.num_classes} -> {classes} classes) untrained; "
                "pass at least 1 with --set transfer.epochs=…"
            )
        head = new_head(head, classes, config.seed)
        network.set_submodule(name, head)
        spec = spec.model_copy(update={"num_classes": classes})
    frozen = freeze(network, trained_parts(network, head, config.trainable_blocks))
    head_lr = 10 * config.lr if config.head_lr is None else config.head_lr

    def lr_of(parameter: str) -> float:
        return head_lr if parameter.startswith(f"{name}.") else config.lr

    def keep_frozen_in_eval(share: float) -> None:
        for module in frozen:
            module.training = False

    once = config.trainable_blocks == 0 and config.epochs > 0
    if once and (config.varied or config.stochastic_depth):
        raise ValueError(
            "trainable_blocks = 0 trains the classifier on features that are computed once; expected no policy, erasing, "
            "mixup, cutmix, sizes or stochastic_depth"
        )
    if once:
        config = config.model_copy(update={"augment": None})
    loss = loss_from_features(network, head, config, images, out) if once else loss_from_images(config)
    label = f"transfer {spec.arch} to {dataset['name']}"
    task = Task(network, loss, images, label, before_step=keep_frozen_in_eval, by_index=once, lr_of=lr_of, decode=not once)
    metrics = fit(task, config, out, since=started)
    metrics |= {
        "classes": classes,
        "new_head": replaced,
        "notes": notes + metrics["notes"],
        "params": {"trained": count(network, trained=True), "frozen": count(network, trained=False)},
        "val_top1": top1(network, Split(images, "val")),
    }
    ranks.main_goes_on()
    save(network, spec, out)
    write_beside(out, dataset)
    tidy(out)
    return metrics


def new_head(head: nn.Linear, classes: int, seed: int) -> nn.Linear:
    """A classifier with the inputs of `head`: zero bias, small random weights."""
    new = nn.Linear(head.in_features, classes, bias=head.bias is not None)
    nn.init.normal_(new.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def trained_parts(network: nn.Module, head: nn.Linear, blocks: int | None) -> list[nn.Module]:
    """The modules of `network` to train: see `Transfer.trainable_blocks`."""
    if blocks is None:
        return [network]
    if blocks == 0:
        return [head]
    if not isinstance(network, ResNet):
        raise ValueError(
            f"trainable_blocks = {blocks}: {type(network).__name__} is not of the ResNet family, its blocks are not known; "
            "expected 0 (the classifier only), or none to train everything"
        )
    children = dict(network.named_children())
    after = list(children)[list(children).index(f"layer{network.stages}") + 1 :]
    last = [block for stage in blocks_of(network) for block in stage][-blocks:]
    return [*last, *(children[child] for child in after)]


def freeze(network: nn.Module, trained: list[nn.Module]) -> list[nn.Module]:
    """Switch off gradients outside of `trained`; returns the modules that must stay in evaluation mode."""
    moving = {module for part in trained for module in part.modules()}
    network.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
    return [module for module in network.modules() if module not in moving]


def loss_from_images(config: Transfer) -> Loss:
    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), y, label_smoothing=config.label_smoothing)

    return loss


def loss_from_features(network: nn.Module, head: nn.Linear, config: Transfer, images: Path, out: Path) -> Loss:
    """A loss(network, x, where) that runs only `head`: its inputs for an image are the same in every epoch.

    They are in `out`/features.npy, which survives an interruption.
    """
    train = Split(images, "train")
    with ranks.main_process_first():
        known = features_of(network, head, train, out / "features.npy", device_and_precision()[1])
    labels = torch.from_numpy(train.labels).to(device_and_precision()[0])

    def loss(network: nn.Module, x: Tensor, where: Tensor) -> Tensor:
        logits = head(torch.from_numpy(known[where.cpu().numpy()]).to(labels.device))
        return functional.cross_entropy(logits, labels[where], label_smoothing=config.label_smoothing)

    return loss


def count(network: nn.Module, trained: bool) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad is trained)
