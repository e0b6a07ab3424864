"""A CSV, TSV, JSON, JSON Lines or text file -> rows of text. A file that is not a table is no error."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIXES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"}
DELIMITERS = (",", ";", "\t", "|")
PAIR = ["file", "label"]  # the columns of {file: label} and [file, label]
LARGEST = 2**28  # bytes; a larger file is no table of labels


@dataclass(frozen=True)
class Table:
    """`rows` have as many cells as `header`; if a file has no header line, the names are "column 1", …"""

    path: Path
    header: list[str]
    rows: list[list[str]]


def read_table(path: Path) -> Table | None:
    """The table in `path`; None if it is not a table. JSON objects are rows, their keys are the header."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        text = path.read_text(encoding="utf-8-sig")
        kind = path.suffix.lower()
        if kind == ".json":
            return from_objects(path, entries_of(json.loads(text)))
        if kind in (".jsonl", ".ndjson"):
            return from_objects(path, [json.loads(line) for line in text.splitlines() if line.strip()])
    except (OSError, ValueError, RecursionError):
        return None
    return from_lines(path, text)


def entries_of(content: Any) -> list[Any]:
    """The rows of a JSON file: {file: label}, {label: [files]}, a list of objects or pairs, or one list within an object."""
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), (list, dict)):
        inner = next(iter(content.values()))
        if isinstance(inner, dict) or any(isinstance(entry, (dict, list)) for entry in inner):
            return entries_of(inner)
    if isinstance(content, dict) and content and all(isinstance(value, list) for value in content.values()):
        return [[file, label] for label, files in content.items() for file in files]
    if isinstance(content, dict):
        # {file: {"label": …}} is a row for each file.
        return [{"file": key, **value} if isinstance(value, dict) else [key, value] for key, value in content.items()]
    return content if isinstance(content, list) else []


def from_objects(path: Path, entries: list[Any]) -> Table | None:
    if entries and all(isinstance(entry, dict) for entry in entries):
        header = list(dict.fromkeys(key for entry in entries for key in entry))
        return Table(path, header, [[cell(entry.get(key)) for key in header] for entry in entries])
    if entries and all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        return Table(path, PAIR, [[cell(value) for value in entry] for entry in entries])
    return None


def cell(value: Any) -> str:
    """A number or text as text; "" for null, a list or an object."""
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def from_lines(path: Path, text: str) -> Table | None:
    """Rows with the delimiter that gives the most cells, the same number in all lines; in .txt it may be a space."""
    lines = [line for line in text.splitlines() if line.strip()]
    delimiters = DELIMITERS + ((" ",) if path.suffix.lower() == ".txt" else ())
    best: list[list[str]] = []
    for delimiter in delimiters:
        try:
            rows = [[value.strip() for value in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width > 1 and all(len(row) == width for row in rows) and (not best or width > len(best[0])):
            best = rows
    return Table(path, [f"column {i + 1}" for i in range(len(best[0]))], best) if best else None


def with_header(table: Table) -> Table:
    """`table` with its first row as its header, if it has no header yet."""
    return Table(table.path, table.rows[0], table.rows[1:]) if table.header[0] == "column 1" else table
