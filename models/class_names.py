"""The names of a checkpoint's classes in the order of its outputs, if the checkpoint or another file next to it states them.

Training scripts keep them as a list (classes, class_names, label_names), as a map from the name to the output (class_to_idx,
label2id) or from the output to the name (idx_to_class, id2label).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BY_NAME = {"classtoidx", "classtoindex", "class2idx", "class2id", "labeltoidx", "labeltoid", "label2idx", "label2id"}
BY_OUTPUT = {
    "idxtoclass",
    "indextoclass",
    "idx2class",
    "id2class",
    "idxtolabel",
    "idtolabel",
    "idx2label",
    "id2label",
    "indextoname",
}
EITHER = {"classes", "classnames", "labelnames", "labels", "names", "categories", "classindices", "classmap", "labelmap"}
FILES = (
    "class_to_idx.json", "idx_to_class.json", "label2id.json", "id2label.json", "labels.json", "classes.json",
    "class_names.json", "label_names.json", "class_indices.json",
    "index_to_name.json", "class_map.json", "label_map.json", "config.json",
    "classes.txt", "class_names.txt",
)  # fmt: skip
DEEP = 4  # containers in containers
PLACEHOLDER = re.compile(r"label_\d+", re.IGNORECASE)  # what transformers calls classes without names


@dataclass(frozen=True)
class Stated:
    """`names` by output, and the `source` that states them."""

    names: list[str]
    source: str


def class_names(content: Any, checkpoint: Path) -> Stated | None:
    """The names in a file next to `checkpoint`, otherwise those in its `content`; None if there are none.

    Raises ValueError if such a file cannot be read, or if a map does not number its classes from 0 without gaps.
    """
    for name in FILES:
        if (path := checkpoint.parent / name).is_file() and (found := in_file(path)):
            return found
    return next(stated_in(content, checkpoint.name), None)


def in_file(path: Path) -> Stated | None:
    """The names in one file next to the checkpoint: a text with one class per line, or JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = text.strip().splitlines() if path.suffix == ".txt" else json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as {'UTF-8' if path.suffix == '.txt' else 'JSON'} ({error}); repair it, or remove it"
        ) from error
    # The whole file may be the list or the map, named by the file.
    names = None if path.name == "config.json" else names_of(path.stem, content, path.name)
    return Stated(names, path.name) if names else next(stated_in(content, path.name), None)


def stated_in(content: Any, file: str, depth: int = 0) -> Iterator[Stated]:
    """The fields of `content` and of the containers in it that state class names, the outermost first."""
    if not isinstance(content, dict):
        content = getattr(content, "__dict__", {})
    for key, value in content.items():
        if names := names_of(str(key), value, f"{key} in {file}"):
            yield Stated(names, f"{key} in {file}")
    if depth < DEEP:
        for value in content.values():
            yield from stated_in(value, file, depth + 1)


def names_of(field: str, value: Any, source: str) -> list[str] | None:
    """The names in the order of the outputs in the field `field`; None for a field of another meaning.

    Raises ValueError if a map does not number its classes 0, 1, 2, ….
    """
    kind = re.sub(r"[^a-z0-9]", "", field.lower())
    if kind not in BY_NAME | BY_OUTPUT | EITHER:
        return None
    if isinstance(value, Mapping):
        pairs = by_output(kind, value)
        if pairs is None:
            return None
        outputs = sorted(output for output, _ in pairs)
        if outputs != list(range(len(pairs))):
            numbered = ", ".join(map(str, outputs[:5])) + (", …" if len(outputs) > 5 else "")
            raise ValueError(
                f"{source} numbers its classes {numbered}; expected 0 … {len(pairs) - 1}, each once: correct it, or write "
                "labels.txt beside the checkpoint with one class a line in the order of the outputs"
            )
        names = [name for _, name in sorted(pairs)]
    elif isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        names = [str(name) for name in value]
    else:
        return None
    return None if all(PLACEHOLDER.fullmatch(name) for name in names) else names


def by_output(kind: str, value: Mapping[Any, Any]) -> list[tuple[int, str]] | None:
    """(output, name) of every entry of a map; None for a map of other things."""
    keys, values = [index_of(key) for key in value], [index_of(name) for name in value.values()]
    numbered, named = None not in keys, None not in values
    by_name = named and (kind in BY_NAME or (kind in EITHER and not numbered))
    if by_name:
        return [(int(i), str(name)) for i, name in zip(values, value, strict=True) if i is not None] or None
    if numbered and kind not in BY_NAME:
        return [(i, str(name)) for i, name in zip(keys, value.values(), strict=True) if i is not None] or None
    return None


def index_of(value: Any) -> int | None:
    """An output's number: an integer, also as text, a NumPy scalar or a tensor; None for anything else."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() else None
    try:
        return value.__index__() if not isinstance(value, bool) else None
    except (AttributeError, TypeError, ValueError):
        return None
