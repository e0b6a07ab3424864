"""WebDataset: tar files with images, and their classes beside them, are read where they are; nothing is unpacked.

A sample is what has one name up to the first point: 0001.jpg and 0001.cls (a class, by number or by name), or 0001.json (an
object with "label"). If a sample has neither, the folder of the image in the tar file is its class.
"""

import json
import os
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from core.console import progress
from core.text import some
from data import workers
from data.filenames import printable
from data.folder import Found
from data.kept import Kept
from data.labelled import data_name
from data.labels import LABEL_COLUMNS
from data.larger import Images, arranged, by_split, files_below
from data.walk import IMAGE_SUFFIXES

SAMPLE = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<kind>[^/]+)")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def read(root: bytes, out: Path) -> Found | None:
    """The images in the tar files of the folder `root`; None if there are none.

    What is found is kept in `out`, so that an interrupted reading continues with the next file. Raises ValueError if a file is
    damaged or compressed.
    """
    files = files_below(root, (".tar",))
    if packed := files_below(root, COMPRESSED):
        raise ValueError(
            f"DATA {data_name(root)}: {some([printable(os.path.basename(file)) for file in packed], 3)} "
            f"{'is' if len(packed) == 1 else 'are'} compressed, and single images in them cannot be read; expected .tar: "
            "decompress them (gunzip, bunzip2, unxz, unzstd)"
        )
    if not files:
        return None
    splits = by_split(root, files)
    images = {split: Images() for split in splits}
    split_of = {file: split for split, shards in splits.items() for file in shards}
    kept = Kept(out / "shards.jsonl")
    with progress() as bar:
        task = bar.add_task("read shards", total=len(files), completed=len(kept.found))
        left = [[i] for i in range(len(kept.found), len(files))]
        for number, shard in enumerate(kept.found):
            add(images[split_of[files[number]]], root, files[number], number, shard)
        for [number], shard in zip(left, workers.results(Shards(files), left, workers.wanted(len(left))), strict=True):
            if "error" in shard:
                raise ValueError(f"DATA {data_name(root)}: {shard['error']}")
            add(images[split_of[files[number]]], root, files[number], number, shard)
            kept.add([shard])
            bar.advance(task)
    found = arranged(root, images, files, "tar files", [])
    kept.finish()
    return found


def add(images: Images, root: bytes, file: bytes, number: int, shard: dict[str, Any]) -> None:
    above = os.path.relpath(file, root)
    for name, start, size, label in shard["samples"]:
        images.add(os.path.join(above, os.fsencode(name)), (number, start, size), label)
    images.left_out += Counter(shard["left_out"])


class Shards(Dataset[dict[str, Any]]):
    """For the index of a tar file, what `samples_of` finds in it, or {"error": a line}."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        [i] = indices
        try:
            return samples_of(os.fsdecode(self.files[i]))
        except (tarfile.TarError, OSError) as error:
            return {"error": f"{printable(self.files[i])} cannot be read ({error}); copy it here again, or remove it"}


def samples_of(file: str) -> dict[str, Any]:
    """{"samples": [name of the image, its first byte, its number of bytes, its class or None], "left_out": {suffix: count}}."""
    samples: list[tuple[str, int, int, str | None]] = []
    left_out: Counter[str] = Counter()
    with open(file, "rb") as content, tarfile.open(file, "r:") as tar:
        key, image, label = "", None, None

        def finish() -> None:
            if image is not None:
                name, start, size = image
                folder = os.path.basename(os.path.dirname(name))
                samples.append((name, start, size, label if label is not None else folder or None))

        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
            matched = SAMPLE.fullmatch(member.name)
            if not member.isreg() or member.issparse() or matched is None or os.path.basename(member.name).startswith("."):
                continue
            if matched["key"] != key:
                finish()
                key, image, label = matched["key"], None, None
            kind = matched["kind"].lower().rpartition(".")[2]
            if f".{kind}" in IMAGE_SUFFIXES and image is None:
                image = (member.name, member.offset_data, member.size)
            elif kind in ("cls", "json"):
                content.seek(member.offset_data)
                found = label_in(kind, content.read(member.size))
                label = found if label is None else label
            else:
                left_out[f".{matched['kind'].lower()}"] += 1
        finish()
    return {"samples": samples, "left_out": left_out}


def label_in(kind: str, content: bytes) -> str | None:
    """The class in a .cls or .json file; None if there is none."""
    try:
        text = content.decode("utf-8-sig")
        if kind == "cls":
            return text.strip() or None
        values = json.loads(text)
    except ValueError:
        return None
    known = {key.lower(): value for key, value in values.items()} if isinstance(values, dict) else {}
    return next((str(known[key]) for key in LABEL_COLUMNS if isinstance(known.get(key), (int, str))), None)
