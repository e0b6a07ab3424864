"""Tables of labels (data/labels.py) -> the classes of the images of a folder and of its splits."""

import os
import re
from collections import Counter

from core.text import some
from data import labels
from data.filenames import printable
from data.labels import Labels
from data.listing import Listing
from data.spellings import split_of
from data.tables import Table


def label_by_tables(root: bytes, parts: dict[str, Listing], folders: dict[str, bytes]) -> list[str]:
    """Give classes to those of `parts` that a table labels; notes about the tables.

    A table in a split's folder is for that split, and so is one in `root` with the name of the split ("train_labels.csv").
    Raises ValueError if a table contradicts the class folders or another table, or if it leaves out too many images.
    """
    above = labels.tables_in(root)
    everywhere = labels.Images([name for part in parts.values() for name in part.names + part.loose]) if above else None
    notes = []
    for split, part in parts.items():
        tables = candidates(root, split, folders[split], above)
        images = part.names + part.loose
        table = labels.best_of(tables, images)
        if table is None or not replaces_folders(table, part):
            continue
        missing = [name for name in table.missing if everywhere is None or everywhere.find(name) is None]
        where = f"{printable(folders[split])}/" if folders[split] else "the images"
        notes.append(f"The labels of {where} come from {table.path.name} (column {table.column!r}).")
        notes += labels.check_complete(data_name(root), table, len(images), missing)
        relabel(part, images, table)
    if not any(part.labelled for part in parts.values()):
        check_unused(root, parts, [table for split in parts for table in candidates(root, split, folders[split], above)])
    return notes


def candidates(root: bytes, split: str, folder: bytes, above: list[Table]) -> list[Table]:
    """The tables that may label the images of `split`; `above` are those in `root`."""
    tables = [table for table in above if split_in(table.path.stem) in (split, None) or not folder]
    return tables + labels.tables_in(os.path.join(root, folder)) if folder else tables


def check_unused(root: bytes, parts: dict[str, Listing], tables: list[Table]) -> None:
    """ValueError if the images have no labels although one of `tables` has a column of labels."""
    image = next((name for part in parts.values() for name in part.names + part.loose), None)
    for table in tables:
        if image is not None and labels.has_label_column(table):
            raise ValueError(
                f"DATA {data_name(root)}: {table.path.name} has labels, but not for these images: its first row is "
                f"{some(labels.first_row(table), 3)}, an image has the name {printable(image)}; correct the names in the "
                "table, or move it out of DATA"
            )


def data_name(root: bytes) -> str:
    return printable(os.path.basename(root))


def split_in(stem: str) -> str | None:
    """The split of a table, by a word in its name."""
    return next((split for word in re.split(r"[^a-z]+", stem.lower()) if (split := split_of(word))), None)


def replaces_folders(table: Labels, part: Listing) -> bool:
    """Whether the classes of `part` come from `table`: there are no class folders, or one folder has all images.

    Raises ValueError if there are several class folders and a column of labels in the table contradicts them.
    """
    if len(set(part.labels) - {-1}) < 2:
        return not part.labelled or (table.known and len(set(table.of.values())) > 1)
    pairs = {(part.labels[i], label) for i, label in table.of.items() if i < len(part.names)}
    if table.known and not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
        raise ValueError(
            f"{table.path} and the class folders ({some(part.classes, 3)}) label the same images differently; move the table "
            "out of DATA, or move the images into one folder"
        )
    return False


def relabel(part: Listing, images: list[bytes], table: Labels) -> None:
    """Give the images of `part` the labels of `table`; `images` without a row are left out."""
    part.classes = sorted(set(table.of.values()), key=int if table.numbers else os.fsencode)
    place = {name: label for label, name in enumerate(part.classes)}
    chosen = sorted((place[label], images[i]) for i, label in table.of.items())
    part.names, part.labels = [name for _, name in chosen], [label for label, _ in chosen]
    part.loose, part.table, part.numbers = [], table, table.numbers
    split_by_name = {images[i]: split for i, split in table.splits.items()}
    part.splits = [split_by_name[name] for name in part.names] if split_by_name.keys() >= set(part.names) else []
    part.left_out -= Counter([table.path.suffix.lower()])
