"""Integer classes in a table -> class names, in the order of the network's outputs."""

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data.filenames import printable
from data.listing import Listing
from data.network import Network
from data.walk import entries_of

CLASS_MAPS = {
    "classes", "class_names", "class_map", "class_indices", "index_to_name",
    "class_to_idx", "idx_to_class", "id2label", "label2id", "labels", "label_map",
    "label_names", "names", "categories", "synsets",
}  # fmt: skip


def name_numbers(root: bytes, parts: Sequence[Listing], network: Network | None) -> list[str]:
    """Replace the integer classes of `parts` by names, in place; notes about the source of the names.

    Number i is the i-th class of a list of classes in DATA (classes.txt, class_to_idx.json …), of the class folders of the
    other part, or of labels.txt of the checkpoint, or output i of the checkpoint. Otherwise the numbers are the names.
    Raises ValueError for a number that is too large.
    """
    numbered = [part for part in parts if part.numbers]
    if not numbered:
        return []
    names, source = names_of(root, parts, network)
    if not names:
        return []
    used = [int(part.classes[label]) for part in numbered for label in set(part.labels)]
    first = 1 if min(used) >= 1 and max(used) == len(names) else 0
    if max(used) - first >= len(names):
        raise ValueError(
            f"DATA {printable(os.path.basename(root))} has class {max(used)}, but {source} {len(names)} classes: expected "
            f"integers from 0 to {len(names) - 1}, in the order of the classes"
        )
    for part in numbered:
        part.labels = [int(part.classes[label]) - first for label in part.labels]
        part.classes = list(names)
    counted = f"Integer classes count from {first}"
    return [f"{counted}, in the order of the classes: {source} {len(names)} classes ({names[0]}, …, {names[-1]})."]


def names_of(root: bytes, parts: Sequence[Listing], network: Network | None) -> tuple[list[str], str]:
    """The names in the order of the numbers, and their source with a verb."""
    tables = {part.table.path for part in parts if part.table is not None}
    for folder in dict.fromkeys([*(os.fsencode(table.parent) for table in tables), root]):
        for entry in entries_of(folder):
            path = Path(os.fsdecode(entry.path))
            if path not in tables and (names := class_list(path)):
                return names, f"{path.name} has"
    for part in parts:
        if part.table is None and not part.numbers:
            return part.classes, "the class folders are"
    if network is None or network.new_classes:
        return [], ""
    return network.labels or [f"class {i}" for i in range(network.num_classes)], "the checkpoint has"


def class_list(path: Path) -> list[str]:
    """The class names by number in the file `path`; none if its name is not a usual one, or if a class name is repeated."""
    if path.stem.lower() not in CLASS_MAPS or path.suffix.lower() not in (".txt", ".json"):
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = names_in(json.loads(text)) if path.suffix.lower() == ".json" else text.strip().split("\n")
    except (OSError, ValueError):
        return []
    names = [unicodedata.normalize("NFC", name.strip()) for name in names]
    return names if all(names) and len(set(names)) == len(names) else []


def names_in(content: object) -> list[str]:
    """Class names of ["cat", "dog"], {"cat": 0, "dog": 1} or {"0": "cat", "1": "dog"}; none for other content."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if not isinstance(content, dict):
        return []
    pairs = {str(key): value for key, value in content.items()}
    if all(isinstance(value, str) for value in pairs.values()) and all(key.isdigit() for key in pairs):
        pairs = {value: int(key) for key, value in pairs.items()}
    if not all(isinstance(value, int) for value in pairs.values()) or sorted(pairs.values()) != list(range(len(pairs))):
        return []
    return sorted(pairs, key=lambda name: int(pairs[name]))
