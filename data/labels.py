"""Tables that name files and their classes -> the class of every image of a folder.

CSV (comma, semicolon, tab), JSON and JSON Lines, as used by Hugging Face (metadata.csv: file_name, label) and Kaggle (id,
label). The columns with the names of the images and with the labels are found; classes are names or integers.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.text import some
from data.filenames import printable
from data.spellings import split_of
from data.tables import PAIR, SUFFIXES, Table, read_table, with_header
from data.walk import IMAGE_SUFFIXES, entries_of

LABEL_COLUMNS = (
    "label", "labels", "class", "classes", "target", "category", "class_name", "label_name", "classname", "class_id",
    "label_id", "category_id", "species", "breed", "diagnosis", "dx", "y", "tag",
)  # fmt: skip
SPLIT_COLUMNS = {"split", "set", "subset", "partition"}
NOT_LABELS = SPLIT_COLUMNS | {"fold", "width", "height", "size", "index", "unnamed: 0", ""}
TOLERATED = 0.01  # missing share of the files in the table, and of the images in the folder


@dataclass(frozen=True)
class Labels:
    """The labels in one table.

    of        {index of the image: its class}
    missing   the file names of the rows without an image
    rows      the number of rows
    column    the name of the column with the labels
    known     the name of the column is a usual one for labels, or the columns have no names
    splits    {index of the image: its split}, if there is a column of splits
    """

    path: Path
    of: dict[int, str]
    missing: list[str]
    rows: int
    column: str
    known: bool
    splits: dict[int, str]

    @property
    def numbers(self) -> bool:
        """Whether the classes are integers."""
        return all(re.fullmatch(r"\d+", label) for label in self.of.values())


def tables_in(folder: bytes) -> list[Table]:
    """The tables directly in `folder`, without submissions: their labels are only examples."""
    paths = [Path(os.fsdecode(entry.path)) for entry in entries_of(folder) if os.path.isfile(entry.path)]
    paths = [path for path in paths if path.suffix.lower() in SUFFIXES and "submission" not in path.name.lower()]
    return [table for path in paths if (table := read_table(path)) is not None]


class Images:
    """Finds an image by its name, with or without its folders, with or without its suffix."""

    def __init__(self, names: Sequence[bytes]) -> None:
        self.ends: dict[str, int] = {}  # every ending of every path, from any of its folders on
        self.whole: dict[str, int] = {}  # every whole path, relative to DATA and to the common folder of all images
        self.split = split_of(printable(names[0].split(b"/")[0])) if names else None
        above = os.path.commonpath([os.path.dirname(name) for name in names]) if names else b""
        for i, name in enumerate(names):
            whole, within = normal(printable(name)), normal(printable(os.path.relpath(name, above or b".")))
            parts = whole.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                for key in {end, bare(end)}:
                    self.ends[key] = i if self.ends.get(key, i) == i else -1  # -1: two images have this name
            self.whole |= {whole: i, bare(whole): i, within: i, bare(within): i}

    def find(self, name: str) -> int | None:
        """The index of the image whose path ends with `name`, or is the end of `name`; None if there is none or several."""
        name = normal(name)
        for key in (name, bare(name)):
            if key in self.ends:
                return self.ends[key] if self.ends[key] >= 0 else None
        while "/" in name:
            above, _, name = name.partition("/")
            if self.split and split_of(above) not in (None, self.split):
                return None  # train/1.png is not test/1.png
            if name in self.whole:
                return self.whole[name]
        return None


def normal(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./").lstrip("/"))


def bare(name: str) -> str:
    """`name` without its suffix, if this is one of images."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def labels_of(table: Table, images: Images) -> Labels | None:
    """The labels of `images` in `table`; None if no column has the name of any image, or no other column can be the labels.

    Raises ValueError if it gives an image two classes.
    """
    columns = range(len(table.header))
    hits = [sum(images.find(row[i]) is not None for row in table.rows) for i in columns]
    file = max(columns, key=lambda i: hits[i])
    if not hits[file]:
        return None
    if images.find(table.rows[0][file]) is None:
        table = with_header(table)
    if label_column(table.header, file) is None:
        table = with_one_label(table, file)
    column = label_column(table.header, file)
    if column is None:
        return None
    of: dict[int, str] = {}
    splits: dict[int, str] = {}
    split = next((i for i, title in enumerate(table.header) if title.strip().lower() in SPLIT_COLUMNS), None)
    missing = []
    for row in table.rows:
        place, label = images.find(row[file]), unicodedata.normalize("NFC", re.sub(r"^(\d+)\.0+$", r"\1", row[column].strip()))
        if place is None:
            missing.append(row[file])
        elif of.setdefault(place, label) != label:
            raise ValueError(f"{table.path} gives {row[file]} two classes, {of[place]} and {label}; expected one row per image")
        elif split is not None:
            splits[place] = row[split].strip()
    of = {place: label for place, label in of.items() if label}
    name = table.header[column].strip()
    known = name.lower() in LABEL_COLUMNS or name.startswith("column ")
    return Labels(table.path, of, missing, len(table.rows), name, known, splits)


def with_one_label(table: Table, file: int) -> Table:
    """`table` with one more column, "label", where its other columns than `file` are classes, of which every row has one 1."""
    columns = [i for i, name in enumerate(table.header) if i != file and name.strip().lower() not in NOT_LABELS]
    chosen = [[i for i in columns if re.fullmatch(r"1(\.0*)?", row[i])] for row in table.rows]
    zeros = all(re.fullmatch(r"[01](\.0*)?", row[i]) for row in table.rows for i in columns)
    if len(columns) < 2 or not zeros or any(len(ones) != 1 for ones in chosen):
        return table
    rows = [[*row, table.header[ones[0]].strip()] for row, ones in zip(table.rows, chosen, strict=True)]
    return Table(table.path, [*table.header, "label"], rows)


def has_label_column(table: Table) -> bool:
    """Whether a column has a usual name for labels; in a JSON object without column names, whether the keys look like files."""
    if table.header == PAIR:
        return any(bare(row[0]) != row[0] for row in table.rows)
    return any(name.strip().lower() in LABEL_COLUMNS for name in with_header(table).header)


def first_row(table: Table) -> list[str]:
    rows = with_header(table).rows
    return rows[0][:3] if rows else []


def label_column(header: list[str], file: int) -> int | None:
    """The column with a usual name for labels, or the only one besides the names of the files."""
    others = {name.strip().lower(): i for i, name in reversed(list(enumerate(header))) if i != file}
    if named := [others[name] for name in LABEL_COLUMNS if name in others]:
        return named[0]
    left = [i for name, i in others.items() if name not in NOT_LABELS]
    return left[0] if len(left) == 1 else None


def best_of(tables: Iterable[Table], names: Sequence[bytes]) -> Labels | None:
    """The labels of `names` in the one of `tables` that has at least half of them.

    If its column has a usual name for labels, matching half of its rows is enough, even if most of these have no label (then
    `check_complete` refuses it), and it has priority over other tables. Raises ValueError if two tables give different labels.
    """
    tables = list(tables)
    images = Images(names if tables else [])
    found = [labels for table in tables if (labels := labels_of(table, images)) is not None]
    found = [labels for labels in found if covers(labels, len(names))]
    found = [labels for labels in found if labels.known] or found
    for other in found[1:]:
        if other.of != found[0].of:
            raise ValueError(
                f"{found[0].path} and {other.path} label the same images differently; keep only one of them in DATA"
            )
    return found[0] if found else None


def covers(labels: Labels, images: int) -> bool:
    if labels.known:
        return bool(labels.of) and 2 * (labels.rows - len(labels.missing)) >= min(images, labels.rows)
    return 2 * len(labels.of) >= images


def check_complete(data: str, labels: Labels, images: int, missing: Sequence[str]) -> list[str]:
    """Notes with the number of `missing` files, and of images without a row.

    Raises ValueError if either is more than 1 %.
    """
    notes = []
    where = labels.path.name
    for count, total, what, do in (
        (len(missing), labels.rows, f"files in {where} do not exist", "complete the images, or remove the rows"),
        (images - len(labels.of), images, f"images have no label in {where}", "complete the table, or remove the images"),
    ):
        if count > TOLERATED * total:
            example = f" ({some(missing, 3)})" if what.startswith("files") else ""
            raise ValueError(
                f"DATA {data}: {count:,} of {total:,} {what}{example}, more than the allowed {100 * TOLERATED:.0f} %; {do}"
            )
        if count:
            notes.append(f"{count:,} of {total:,} {what}; they are left out.")
    return notes
