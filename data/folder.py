"""A folder of images -> its splits, and their classes.

DATA/train/<class>/*, DATA/val/<class>/*, DATA/test/<class>/*     any subset with val/ or test/; other spellings in spellings.py
DATA/<class>/*                                                    split here
DATA/*, or a split's folder, with a table of labels               see data/labels.py
DATA/*                                                            unlabelled
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.text import some
from data.filenames import printable
from data.labelled import data_name, label_by_tables
from data.listing import Listing, chosen_of, everything, examples, listing, unlabelled
from data.spellings import split_of
from data.walk import entries_of, is_folder

EXPECTED = (
    "expected train/<class>/* with val/<class>/* (or test/), val/ or test/ alone, <class>/* alone, a table of labels (CSV or "
    "JSON) beside the images, a folder with unlabelled images directly in it, tar files of WebDataset, or Arrow or Parquet "
    "files of Hugging Face"
)


@dataclass
class Found:
    """The images in DATA by split: "test" and, if there are such images, "train" before it and "val" between them.

    `split_here`: there is only "train", and it must still be split. `larger`: as in data/files.py.
    """

    parts: dict[str, Listing]
    labelled: bool = True
    split_here: bool = False
    notes: list[str] = field(default_factory=list)
    larger: list[str] = field(default_factory=list)


def read(root: bytes) -> Found:
    """Find images and classes in the folder `root`. Raises ValueError that says what was found if the layout is unknown."""
    folders = split_folders(root)
    if not folders:
        return without_splits(root)
    parts = {split: listing(root, folder) for split, folder in folders.items()}
    return by_gate(root, parts, folders, label_by_tables(root, parts, folders))


def by_gate(root: bytes, parts: dict[str, Listing], folders: dict[str, bytes], notes: list[str]) -> Found:
    """The use of the splits `parts`: which one judges, and which one chooses. `folders` are their names in messages."""
    for split, part in parts.items():
        if not (part.names or part.loose):
            raise ValueError(f"DATA {printable(root)}: {printable(folders[split])}/ has no images; remove it, or {EXPECTED}")
    train = parts.pop("train", None)
    if train is not None and not train.labelled:
        raise ValueError(f"DATA {printable(root)}: {without_labels(folders['train'], train)}; {EXPECTED}")
    if train is not None and not parts and train.table is None:
        folder = printable(folders["train"])
        raise ValueError(
            f"DATA {printable(root)} has {folder}/ but neither val/ nor test/; pass DATA={printable(root)}/{folder} to split "
            f"it automatically, or make val/; {EXPECTED}"
        )
    gates = [split for split in ("test", "val") if split in parts and judges(parts[split], train or parts.get("val"))]
    gates = gates or [split for split in ("test", "val") if split in parts and parts[split].labelled]
    if train is None and set(parts) == {"val", "test"} and not gates:
        return Found(by_use({split: unlabelled(part) for split, part in parts.items()}), labelled=False, notes=notes)
    if train is None and not gates:
        split, part = next(iter(parts.items()))
        raise ValueError(
            f"DATA {printable(root)}: {without_labels(folders[split], part)}; {EXPECTED}; if they have no classes, pass "
            f"DATA={printable(root)}/{printable(folders[split])}"
        )
    judge = f"{printable(folders[gates[0]])}/ is the test set" if gates else f"{printable(folders['train'])}/ is split instead"
    for split, part in parts.items():
        if split not in gates:
            count = len(part.names) + len(part.loose)
            notes.append(f"{printable(folders[split])}/ has no labels ({count:,} images) and is not used; {judge}.")
    return Found(by_use({"train": train} | {gate: parts[gate] for gate in gates}), split_here=not gates, notes=notes)


def by_use(parts: Mapping[str, Listing | None]) -> dict[str, Listing]:
    """The parts that exist, in the order train, val, test; val alone becomes test."""
    used = {"train": parts.get("train"), "val": parts.get("val"), "test": parts.get("test")}
    if used["test"] is None:
        used |= {"val": None, "test": used["val"]}
    return {split: part for split, part in used.items() if part is not None}


def split_folders(root: bytes) -> dict[str, bytes]:
    """{split: its folder in `root`}, in any case and spelling. ValueError for two folders of one split."""
    found: dict[str, bytes] = {}
    for entry in entries_of(root):
        split = split_of(printable(entry.name))
        if split is None or not is_folder(entry):
            continue
        if split in found:
            raise ValueError(
                f"DATA {printable(root)} has both {printable(found[split])}/ and {printable(entry.name)}/, two names of one "
                "split; expected one of them"
            )
        found[split] = entry.name
    return found


def judges(part: Listing, known: Listing | None) -> bool:
    """Whether `part` has labels. A single folder that is no class of `known` (test/unknown/) is not taken as a class."""
    if not part.labelled or known is None or known is part or not known.labelled:
        return part.labelled
    return part.table is not None or not set(part.classes).isdisjoint(known.classes) or len(part.classes) > 1


def without_labels(folder: bytes, part: Listing) -> str:
    return f"{printable(folder)}/ has {len(part.names) + len(part.loose):,} images but no class folders"


def without_splits(root: bytes) -> Found:
    """Class folders on one level, images with a table of labels, or unlabelled images."""
    folders = [entry for entry in entries_of(root) if is_folder(entry)]
    for entry in folders:
        if inner := split_folders(entry.path):
            names = ", ".join(f"{printable(entry.name)}/{printable(name)}/" for name in inner.values())
            raise ValueError(
                f"DATA {printable(root)} has its splits one level down ({names}); pass DATA={printable(entry.path)}, or put "
                f"the splits above the class folders; {EXPECTED}"
            )
    part = listing(root, b"")
    if len(part.classes) < 2 or len(part.loose) >= len(part.names):
        part = everything(root, part)
    notes = label_by_tables(root, {"": part}, {"": b""})
    if part.splits:
        return by_column(root, part, notes)
    if part.labelled:
        return Found({"train": part}, split_here=True, notes=notes)
    if any(b"/" not in name for name in part.names):
        return Found({"test": part}, labelled=False, notes=notes + folders_not_classes(root, folders, part))
    entries = entries_of(root)
    found = "is empty"
    if entries:
        inside = some([printable(entry.name) + "/" * is_folder(entry) for entry in entries])
        found = f"has {inside}, but neither images nor val/ or test/"
        if part.names:
            found += f"; one folder of images has no classes: pass DATA={printable(folders[0].path)} if they have no labels"
    raise ValueError(f"DATA {printable(root)} {found}; {EXPECTED}")


def by_column(root: bytes, part: Listing, notes: list[str]) -> Found:
    """The splits in the table of `part`. ValueError if it has other words than those for splits."""
    splits = np.asarray([split_of(name) or name for name in part.splits])
    found = set(splits.tolist())
    if unknown := sorted(found - {"train", "val", "test"}):
        raise ValueError(
            f"DATA {data_name(root)}: the table of labels has the splits {some(unknown)}; expected train, val and test"
        )
    if found == {"train"}:
        return Found({"train": part}, split_here=True, notes=notes)
    parts = by_use({split: chosen_of(part, splits == split) for split in found})
    first = next(iter(parts.values()))
    first.left_out, first.dangling = part.left_out, part.dangling
    gate = "test" if "test" in found else "val"
    return Found(parts, notes=[*notes, f"The splits are those of the table; {gate} is the test set."])


def folders_not_classes(root: bytes, folders: Sequence[os.DirEntry[bytes]], part: Listing) -> list[str]:
    """A note if folders that could be classes are not used as classes, because most images are outside of them."""
    inside = {name.split(b"/")[0] for name in part.names if b"/" in name}
    if len(inside) < 2:
        return []
    return [
        f"The folders {examples(sorted(inside))} were not used as classes, because most images are outside of them; if they "
        "are classes, move the other images out of DATA."
    ]
