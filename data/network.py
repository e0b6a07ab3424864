"""What a loaded checkpoint knows about its images: classes, channels, how they were prepared."""

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.text import problem, some
from data.spec import Preprocessing


@dataclass(frozen=True)
class Network:
    """`labels` in the order of the outputs, where they are known. With `new_classes` the images may show others.

    `given` is how the checkpoint itself says that images are prepared, `family` how they are for most of its kind.
    """

    num_classes: int
    in_channels: int
    labels: list[str] | None
    given: Preprocessing
    family: Preprocessing
    new_classes: bool = False


def read_network(folder: Path) -> Network:
    """model.json, and where they are there labels.txt and preprocess.json, of `folder`.

    Raises ValueError when the network takes no images that we can make, or when labels.txt does not fit it.
    """
    model = json.loads((folder / "model.json").read_text())
    if model["in_channels"] not in (1, 3):
        raise ValueError(f"the checkpoint takes {model['in_channels']} input channels; expected 1 (grey) or 3 (RGB) for images")
    known: dict[str, Any] = {"given": {}, "family": {}}
    if (folder / "preprocess.json").exists():
        known |= json.loads((folder / "preprocess.json").read_text())
    try:
        given, family = (Preprocessing(**known[level]) for level in ("given", "family"))
    except ValidationError as error:
        raise ValueError(f"the checkpoint's preprocessing is unusable: {problem(error, Preprocessing)}") from error
    return Network(model["num_classes"], model["in_channels"], read_labels(folder, model["num_classes"]), given, family)


def read_labels(folder: Path, num_classes: int) -> list[str] | None:
    """The lines of labels.txt, None when there is none."""
    if not (folder / "labels.txt").exists():
        return None
    try:
        text = (folder / "labels.txt").read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"labels.txt of the checkpoint is not UTF-8 ({error.reason}); save it as UTF-8") from error
    labels = [unicodedata.normalize("NFC", line.strip()) for line in text.strip().split("\n")]
    if len(labels) != num_classes:
        raise ValueError(
            f"labels.txt has {len(labels)} lines, the checkpoint {num_classes} classes: expected one name per output"
        )
    return labels


def same_classes(classes: list[str], network: Network | None) -> bool | None:
    """Whether the network's outputs mean `classes`, in this order; None when it does not say what they mean."""
    return None if network is None or network.labels is None else network.labels == classes


def class_order(data: str, found: list[str] | None, network: Network | None) -> list[str]:
    """The classes in the order of the network's outputs. `found` are those of DATA; None when it has no labels.

    Raises ValueError when they are not the network's.
    """
    if network is None:
        if found is None:
            raise ValueError(f"DATA {data} has no labels; unlabelled images can only calibrate a CHECKPOINT: pass one")
        return found
    if found is None:
        return network.labels or [f"class {i}" for i in range(network.num_classes)]
    if network.new_classes:
        return network.labels if network.labels is not None and set(network.labels) == set(found) else found
    if network.labels is None:
        if len(found) != network.num_classes:
            raise ValueError(
                f"the checkpoint has {network.num_classes} classes, DATA {data} has {len(found)} ({some(found)}): pass the "
                "data it was trained on, a labels.txt beside the checkpoint, or train a new head with make train CHECKPOINT=…"
            )
        return found
    lines = Counter(network.labels)
    unknown = [name for name in found if name not in lines]
    if unknown:
        raise ValueError(
            f"DATA {data} has {len(unknown)} classes that labels.txt of the checkpoint has not: {some(unknown, 10)}; "
            f"expected names of its lines ({some(network.labels, 3)})"
        )
    twice = [name for name in found if lines[name] > 1]
    if twice:
        raise ValueError(f"labels.txt of the checkpoint has {some(twice)} more than once; expected distinct names")
    return network.labels
