"""model + images -> the features of every image, the inputs of the classifier (features.npz)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from compress.device import device_batches, to_device
from core.config import Config
from core.console import progress
from data.loader import Split
from models.checkpoint import AnySpec, classifier, load


class Features(Config):
    """`batch_size`: the number of images in a forward pass."""

    batch_size: int = Field(default=128, gt=0)


def features(config: Features, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Write `out`/features.npz: `<split>_features` float32 [N, C] and `<split>_labels` int64 [N] of every split that has
    images, in the order of the split, and `classes`, the names of the labels.

    The features are computed in float32, not only stored in it, of images that are not augmented. Raises ValueError when
    `model` cannot take the images.
    """
    network, spec = load(model)
    _, head = head_of(network, spec)
    splits = {name: Split(images, name) for name in ("train", "val", "test") if (images / f"{name}.labels.npy").exists()}
    arrays: dict[str, np.ndarray] = {}
    for name, split in splits.items():
        check_channels(spec.in_channels, split.dataset)
        if len(split):
            file = out / f"{name}.npy"
            arrays[f"{name}_features"] = features_of(network, head, split, file, torch.float32, config.batch_size)
            arrays[f"{name}_labels"] = split.labels.astype(np.int64)
    classes = next(iter(splits.values())).dataset["classes"]
    named = {**arrays, "classes": np.asarray(classes, dtype=str)}
    np.savez(out / "features.npz", **named)  # type: ignore[arg-type]  # a name could be savez's own allow_pickle
    for name in splits:
        (out / f"{name}.npy").unlink(missing_ok=True)
    return {name: list(array.shape) for name, array in arrays.items() if name.endswith("_features")}


def features_of(
    network: nn.Module, head: nn.Linear, split: Split, file: Path, precision: torch.dtype, batch_size: int = 128
) -> np.ndarray:
    """The inputs of `head`, the classifier of `network`, for every image of `split`: float32 [N, C], memory-mapped from `file`.

    `network` computes in `precision`. The file is written when it does not exist yet, completely or not at all.
    """
    if not file.exists():
        whole = precision is torch.float32
        device = to_device(network.eval())
        temporary = file.with_suffix(".tmp")
        found = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(split), head.in_features))
        read: list[np.ndarray] = []
        done = 0
        with (
            progress() as bar,
            head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].float().cpu().numpy())),
            torch.inference_mode(),
            torch.autocast(device.type, precision, enabled=not whole),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=not whole),  # TF32 has 10 of the 23 bits of float32
        ):
            task = bar.add_task("features", total=len(split))
            for x, _ in device_batches(split, batch_size):
                network(x)
                found[done : done + len(x)] = read.pop()
                done += len(x)
                bar.advance(task, len(x))
        found.flush()
        temporary.replace(file)
    array: np.ndarray = np.load(file, mmap_mode="r")
    return array


def head_of(network: nn.Module, spec: AnySpec) -> tuple[str, nn.Linear]:
    """Name and module of the classifier of `network`.

    Raises ValueError when it is not a linear layer.
    """
    head = classifier(network, spec)
    name = next(name for name, module in network.named_modules() if module is head)
    if not isinstance(head, nn.Linear):
        raise ValueError(f"the classifier of MODEL {spec.arch}, {name}, is a {type(head).__name__}; expected an nn.Linear")
    return name, head


def check_channels(in_channels: int, dataset: dict[str, Any]) -> None:
    """Raise ValueError when a network with `in_channels` cannot read the images that `dataset` describes."""
    found = dataset["input_shape"][0]
    if found != in_channels:
        raise ValueError(
            f"DATA {dataset['name']} has images of {found} channels, the checkpoint reads {in_channels}; "
            f"for a folder of images pass --set data.channels={in_channels}"
        )
