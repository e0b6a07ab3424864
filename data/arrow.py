"""Hugging Face's data sets on disk: Arrow files (Dataset.save_to_disk) and Parquet files (as a snapshot of the Hub has them).

Images in Arrow files are read where they are. Parquet has no single images, only pages of many rows, which may be compressed:
its images are copied once, with all their bytes, into one file in the cache for each Parquet file. pyarrow reads both; the
package datasets, which would convert Parquet to Arrow in the same way, is not needed.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.console import progress
from core.text import one_line, some
from data.filenames import printable
from data.folder import Found
from data.labelled import data_name
from data.labels import LABEL_COLUMNS
from data.larger import Images, arranged, by_split, files_below

ROWS = 64  # that are copied at once


@dataclass
class Column:
    """The images of one file: the file that has their bytes, the first byte and the number of bytes of each, and their classes.

    `classes` are all classes in their order, if the file names them. `notes` are for the user.
    """

    file: str
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(root: bytes, cache: Path) -> Found | None:
    """The images in the Arrow and Parquet files of the folder `root`; None if there are none. See `unpack` for `cache`.

    Raises ValueError if pyarrow is not installed, a file is damaged, or it has no column of images.
    """
    files = table_files(root)
    if not files:
        return None
    unpack(root, cache)
    images: dict[str, Images] = {}
    larger: list[bytes] = []
    notes: dict[str, None] = {}
    for split, tables in by_split(root, files).items():
        images[split] = Images()
        for table in tables:
            found = column_of(root, table, cache)
            above = os.path.relpath(table, root)
            images[split].classes = found.classes
            for row, (start, size, label) in enumerate(zip(found.starts, found.sizes, found.labels, strict=True)):
                images[split].add(b"%s/%d" % (above, row), (len(larger), start, size), label)
            larger.append(os.fsencode(found.file))
            notes |= dict.fromkeys(found.notes)
    return arranged(root, images, larger, "tables", list(notes))


def table_files(root: bytes) -> list[bytes]:
    """The Arrow and Parquet files below `root`, without those that the package datasets adds when it maps or sorts."""
    files = files_below(root, (".arrow", ".parquet"))
    return [file for file in files if not os.path.basename(file).startswith((b"cache-", b"tmp"))]


def unpack(root: bytes, cache: Path) -> None:
    """Copy the images of the Parquet files of `root` to `cache`, where they are not there yet. One file after another, so that
    an interrupted copy continues.
    """
    missing = [file for file in table_files(root) if is_parquet(file) and not copied(file, cache)]
    if not missing:
        return
    with progress() as bar:
        for file in bar.track(missing, description="copy images of Parquet files"):
            try:
                copy_images(root, file, cache)
            except OSError as error:
                raise ValueError(
                    f"the images of {printable(os.path.basename(file))} cannot be copied to {cache} ({error.strerror}); "
                    "expected a folder with enough space that you may write to: pass --set data.cache=…"
                ) from error


def is_parquet(file: bytes) -> bool:
    return file.lower().endswith(b".parquet")


def copied(file: bytes, cache: Path) -> bool:
    about = copy_of(file, cache)
    return about.exists() and about.with_suffix(".bin").exists()


def copy_of(file: bytes, cache: Path) -> Path:
    """The file about the copied images of the Parquet file `file`; beside it, as .bin, are their bytes."""
    status = os.stat(file)
    key = b"%s\0%d\0%d" % (os.path.realpath(file), status.st_size, status.st_mtime_ns)
    return cache.absolute() / "unpacked" / f"{hashlib.sha256(key).hexdigest()[:16]}.json"


def copy_images(root: bytes, file: bytes, cache: Path) -> None:
    about = copy_of(file, cache)
    about.parent.mkdir(parents=True, exist_ok=True)
    rows = Rows(root, file)
    found = Column(str(about.with_suffix(".bin")), classes=rows.classes, notes=rows.notes)
    partial = about.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as copy:
            for images, labels in rows:
                for image in images:
                    found.starts.append(copy.tell())
                    found.sizes.append(copy.write(image.as_buffer()))
                found.labels += labels
        partial.rename(found.file)
        partial.write_text(json.dumps(asdict(found)))
        partial.rename(about)
    finally:
        partial.unlink(missing_ok=True)


def column_of(root: bytes, file: bytes, cache: Path) -> Column:
    """The images of `file`: where they are in the file itself, or in the copy of a Parquet file."""
    if is_parquet(file):
        return Column(**json.loads(copy_of(file, cache).read_text()))
    rows = Rows(root, file)
    found = Column(os.fsdecode(file), classes=rows.classes, notes=rows.notes)
    for images, labels in rows:
        _, bounds, content = images.buffers()
        wide = np.int64 if str(images.type) == "large_binary" else np.int32
        ends = np.frombuffer(bounds, wide)[images.offset : images.offset + len(images) + 1].astype(np.int64)
        first = content.address - rows.whole.address
        if not 0 <= first < rows.whole.size:  # the buffer was made anew
            raise rows.refused("has compressed columns; expected a file of Dataset.save_to_disk, which compresses nothing")
        found.starts += (first + ends[:-1]).tolist()
        found.sizes += np.diff(ends).tolist()
        found.labels += labels
    return found


class Rows:
    """The rows of an Arrow or Parquet file: arrays of encoded images (binary, or large_binary), and their classes.

    classes   all classes in their order, if the file names them
    whole     the memory-mapped Arrow file
    """

    def __init__(self, root: bytes, file: bytes) -> None:
        self.root, self.file = root, file
        self.pyarrow = pyarrow_for(root)
        path = os.fsdecode(file)
        try:
            if is_parquet(file):
                self.reader = self.pyarrow.parquet.ParquetFile(path)
                schema = self.reader.schema_arrow
            else:
                self.whole = self.pyarrow.memory_map(path).read_buffer()
                self.reader = self.pyarrow.ipc.open_stream(self.whole)
                schema = self.reader.schema
        except (self.pyarrow.ArrowException, OSError) as error:
            raise self.damaged(error) from error
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        declared = about.get("info", {}).get("features") or {}
        features = {name: kind for name, kind in declared.items() if isinstance(kind, dict)}
        self.image = self.image_column(schema, features)
        self.label, others = label_column(schema, features)
        self.classes: list[str] = features.get(self.label or "", {}).get("names") or []
        self.notes = [f"The labels are those of the column {self.label!r}, not of {some(others)}."] if others else []

    def __iter__(self) -> Iterator[tuple[Any, list[str | None]]]:
        columns = [name for name in (self.image, self.label) if name is not None]
        try:
            for batch in self.reader.iter_batches(ROWS, columns=columns) if is_parquet(self.file) else self.reader:
                if not batch.num_rows:
                    continue
                images = batch.column(self.image)
                if images.type.num_fields:
                    images = self.pyarrow.compute.struct_field(images, "bytes")
                if images.null_count:
                    raise self.refused("has images without bytes, only with paths; expected the images themselves in it")
                labels = batch.column(self.label).to_pylist() if self.label else [None] * len(images)
                yield images, [self.class_of(label) for label in labels]
        except (self.pyarrow.ArrowException, OSError) as error:
            raise self.damaged(error) from error

    def class_of(self, label: Any) -> str | None:
        """The class of a cell; None if it is empty or, as in test images without labels, below 0."""
        if not isinstance(label, int):
            return label or None
        if label < 0:
            return None
        return self.classes[label] if self.classes else str(int(label))

    def image_column(self, schema: Any, features: dict[str, Any]) -> str:
        """The column of type Image; else the first with bytes. Raises ValueError if there is none."""
        declared = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
        structs = [name for name in schema.names if "bytes: " in str(schema.field(name).type)]
        plain = [name for name in schema.names if str(schema.field(name).type) in ("binary", "large_binary")]
        if found := [*declared, *structs, *plain]:
            return str(found[0])
        raise self.refused(f"has the columns {some(schema.names)}; expected a column of type Image, with encoded images")

    def refused(self, what: str) -> ValueError:
        return ValueError(f"DATA {data_name(self.root)}: {printable(os.path.relpath(self.file, self.root))} {what}")

    def damaged(self, error: Exception) -> ValueError:
        return self.refused(f"cannot be read ({one_line(error)}); copy it here again")


def label_column(schema: Any, features: dict[str, Any]) -> tuple[str | None, list[str]]:
    """The column with the classes, and other columns of type ClassLabel; None if there are no labels.

    Columns of that type come first, and among them those with a usual name for labels.
    """
    declared = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    usual = [name for title in LABEL_COLUMNS for name in schema.names if name.lower() == title]
    simple = [name for name in usual if "int" in str(schema.field(name).type) or "string" in str(schema.field(name).type)]
    found = [*(name for name in simple if name in declared), *declared, *simple]
    return (found[0], [name for name in declared if name != found[0]]) if found else (None, [])


def pyarrow_for(root: bytes) -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"DATA {data_name(root)} has Arrow or Parquet files of Hugging Face, and package pyarrow is not installed: "
            "pip install -e '.[huggingface]' in the .venv of respress"
        ) from error
    return pyarrow
