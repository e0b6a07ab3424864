"""The images of a loaded checkpoint: classes, channels, preprocessing."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.text import problem, some
from data.spec import Preprocessing


@dataclass(frozen=True)
class Network:
    """The classes and the preprocessing of a checkpoint.

    labels        in the order of the outputs; None if they are unknown. `stated_by` names their source
    given         the preprocessing that the checkpoint or a file beside it states
    family        the default preprocessing of networks of its family
    new_classes   the images may show other classes
    """

    num_classes: int
    in_channels: int
    labels: list[str] | None
    given: Preprocessing
    family: Preprocessing
    new_classes: bool = False
    stated_by: str = "labels.txt of the checkpoint"


def read_network(folder: Path) -> Network:
    """model.json of `folder`, and labels.txt or class_names.json and preprocess.json if they exist.

    Raises ValueError if the network does not take grey or RGB images, or if the number of class names is wrong.
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
    outputs = model["num_classes"]
    names = {"labels": read_labels(folder, outputs), **read_stated(folder, outputs)}
    return Network(num_classes=outputs, in_channels=model["in_channels"], given=given, family=family, **names)


def read_labels(folder: Path, num_classes: int) -> list[str] | None:
    """The lines of labels.txt; None if there is no such file."""
    if not (folder / "labels.txt").exists():
        return None
    try:
        text = (folder / "labels.txt").read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"labels.txt of the checkpoint is not UTF-8 ({error.reason}); save it as UTF-8") from error
    labels = [unicodedata.normalize("NFC", line.strip()) for line in text.strip().split("\n")]
    if len(labels) != num_classes:
        raise ValueError(
            f"labels.txt has {len(labels)} lines, the checkpoint has {num_classes} classes: expected one name per output"
        )
    return labels


def read_stated(folder: Path, num_classes: int) -> dict[str, Any]:
    """The class names that the checkpoint or another file beside it states; not used if there is a labels.txt."""
    path = folder / "class_names.json"
    if not path.exists() or (folder / "labels.txt").exists():
        return {}
    stated = json.loads(path.read_text())
    names, source = [unicodedata.normalize("NFC", name.strip()) for name in stated["names"]], stated["source"]
    if len(names) != num_classes:
        raise ValueError(
            f"{source} names {len(names)} classes, the checkpoint has {num_classes} outputs: expected one name per output; "
            "correct it, or write labels.txt beside the checkpoint with one class a line in the order of the outputs"
        )
    return {"labels": names, "stated_by": source}


def in_spelling_of(found: list[str], labels: list[str]) -> list[str] | None:
    """`labels` with the spelling of `found`; None if not every name of `found` is one of the labels.

    Spellings may differ in case, spaces, hyphens and underscores, and every label may begin with the number of its output.
    """
    for names in readings(labels):
        for spelling in (str, plain):
            own = {spelling(name): name for name in found}
            lines = Counter(spelling(name) for name in names)
            if len(own) == len(found) and all(lines[name] == 1 for name in own):
                return [own.get(spelling(name), name) for name in names]
    return None


def readings(labels: list[str]) -> Iterator[list[str]]:
    """`labels` as they are; and without the numbers if every line begins with the number of its output ("0: crack")."""
    yield labels
    numbered = [re.fullmatch(r"(\d+)\s*[:;,\s]\s*(\S.*)", label) for label in labels]
    by_output = {int(line[1]): line[2] for line in numbered if line}
    if sorted(by_output) == list(range(len(labels))):
        yield [by_output[i] for i in range(len(labels))]


def plain(name: str) -> str:
    """A class name without case, spaces, hyphens and underscores: "Deep_Scratch" and "deep scratch" become the same."""
    return re.sub(r"[\s_-]", "", unicodedata.normalize("NFC", name).casefold())


def same_classes(classes: list[str], network: Network | None) -> bool | None:
    """Whether the network's outputs are `classes`, in this order; None if its classes are unknown."""
    return None if network is None or network.labels is None else in_spelling_of(classes, network.labels) == classes


def class_order(data: str, found: list[str] | None, network: Network | None) -> list[str]:
    """The classes in the order of the network's outputs. `found` are those of DATA; None if it has no labels.

    Raises ValueError if they are not classes of the network.
    """
    if network is None:
        if found is None:
            raise ValueError(f"DATA {data} has no labels; unlabelled images can only be used with a CHECKPOINT: pass one")
        return found
    if found is None:
        return list(readings(network.labels))[-1] if network.labels else [f"class {i}" for i in range(network.num_classes)]
    spelled = in_spelling_of(found, network.labels) if network.labels is not None else None
    if network.new_classes:
        return spelled if spelled is not None and set(spelled) == set(found) else found
    if network.labels is None:
        if len(found) != network.num_classes:
            raise ValueError(
                f"the checkpoint has {network.num_classes} classes, DATA {data} has {len(found)} ({some(found)}): pass the "
                "data it was trained on, a labels.txt beside the checkpoint, or train a new head with make train CHECKPOINT=…"
            )
        return found
    if spelled is None:
        raise unknown_classes(data, found, network.labels, network.stated_by)
    return spelled


def unknown_classes(data: str, found: list[str], labels: list[str], source: str) -> ValueError:
    """The error if the classes of DATA are not among the labels."""
    lines = Counter(plain(name) for name in [*readings(labels)][-1])
    unknown = [name for name in found if plain(name) not in lines]
    if unknown:
        return ValueError(
            f"DATA {data} has {len(unknown)} classes that {source} does not have: {some(unknown, 10)}; "
            f"expected only its names ({some(labels, 3)})"
        )
    twice = [name for name in found if lines[plain(name)] > 1]
    return ValueError(f"{source} has {some(twice)} more than once; expected distinct names")
