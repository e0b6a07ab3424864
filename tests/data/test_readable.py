"""Files that cannot be read: a few are left out and named, many stop the run, and later changes end in one line."""

import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data import preprocess
from data.index import Data, index
from data.loader import Split, batches
from tests.data.conftest import Tree, picture

SPEC = {"channels": 3, "input_size": 32, "resize": "shorter", "resize_size": 36, "interpolation": "bilinear"}


def encoded(form: str, size: tuple[int, int] = (200, 150), **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture(0, size).save(buffer, form, **options)
    return buffer.getvalue()


def refused(file: Path, content: bytes) -> str:
    """What `load` says of it, both when it checks and when it decodes."""
    file.write_bytes(content)
    messages = set()
    for coarse in (True, False):
        with pytest.raises(OSError) as error:
            preprocess.load(file, SPEC, coarse=coarse)
        messages.add(str(error.value))
    return messages.pop()


@pytest.mark.parametrize("share", (0.02, 0.5, 0.97))
@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {}), ("GIF", {}),
     ("TIFF", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_a_truncated_file_is_noticed(tmp_path: Path, form: str, options: dict[str, Any], share: float) -> None:
    whole = encoded(form, **options)
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert preprocess.load(tmp_path / "whole.jpg", SPEC).size == (200, 150)
    refused(tmp_path / "x.jpg", whole[: int(share * len(whole))])


@pytest.mark.parametrize("content", (b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(range(256)) * 8))
def test_what_is_no_image_is_noticed(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path / "x.jpg", content)


def test_a_decompression_bomb_is_noticed(tmp_path: Path) -> None:
    for side in (10_000, 16_000):  # Pillow warns of the first and refuses the second
        buffer = io.BytesIO()
        Image.new("1", (side, side)).save(buffer, "PNG")
        assert "pixels" in refused(tmp_path / "x.png", buffer.getvalue())
    assert "too narrow" in refused(tmp_path / "strip.png", encoded("PNG", (1, 100_000)))


def with_broken(tree: Tree, count: int, broken: list[bytes]) -> Path:
    """`count` images in train/a, train/b and val/a, the first of train/a broken."""
    root = tree({"train/a": count // 2, "train/b": count - count // 2 - 4, "val/a": 4})
    for i, content in enumerate(broken):
        (root / "train" / "a" / f"{i:03}.png").write_bytes(content)
    return root


def test_few_are_left_out_and_named(tree: Tree, out: Path) -> None:
    root = with_broken(tree, 200, [b""])
    found = index(Data(name=str(root)), out)
    assert found["notes"] == ["1 of 200 images cannot be read and is left out: train/a/000.png (empty file)"]
    assert (out / "unreadable.txt").read_text() == "train/a/000.png\tempty file\n"
    assert sum(found["splits"].values()) == 199
    for part in ("train", "val", "test"):
        assert sum(len(x) for x, _ in batches(Split(out, part), 50)) == found["splits"][part]


def test_many_stop_the_run(tree: Tree, out: Path) -> None:
    kinds = [b"", b"text", encoded("PNG")[:300], *[b"\xff\xd8\xff"] * 7]
    root = with_broken(tree, 200, kinds)
    (root / "train" / "a" / "003.png").unlink()
    (root / "train" / "a" / "003.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"my-images: 10 of 200 images \(5\.0 %\) cannot be read") as refusal:
        index(Data(name=str(root)), out)
    message = str(refusal.value)
    assert "train/a/000.png (empty file), train/a/001.png (none of JPEG" in message and "\n" not in message
    assert (
        "train/a/003.png (No such file or directory)" in message and "train/a/004.png" in message and "005.png" not in message
    )
    assert len((out / "unreadable.txt").read_text().splitlines()) == 10


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tree: Tree, out: Path) -> None:
    root = with_broken(tree, 200, [])
    (root / "train" / "a" / "000.png").chmod(0)
    assert "train/a/000.png (Permission denied)" in index(Data(name=str(root)), out)["notes"][0]
    (root / "train" / "a" / "000.png").chmod(stat.S_IRUSR)


def test_a_class_that_loses_all_its_images_is_named(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 200, "train/b/x.jpg": b"", "val/a": 2})
    with pytest.raises(ValueError, match="no readable training image of b"):
        index(Data(name=str(root)), out)


def test_only_images_that_are_used_are_decoded(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 10, "val/a": 10})
    for i in range(1, 9):  # between the first and the last, which the limit takes
        (root / "val" / "a" / f"{i:03}.png").write_bytes(b"")
    found = index(Data(name=str(root), test_limit=2), out)
    assert found["splits"]["test"] == 2 and found["notes"] == []


@pytest.mark.parametrize("broken", (b"", None))
def test_a_file_that_changes_later_is_named_in_one_line(tree: Tree, out: Path, broken: bytes | None) -> None:
    root = tree({"train/a": 4, "val/a": 70})
    index(Data(name=str(root)), out)
    file = root / "val" / "a" / "065.png"
    file.unlink()
    if broken is not None:
        file.write_bytes(broken)
    with pytest.raises(ValueError, match=r"^val/a/065\.png of DATA my-images cannot be read \(.*changed since") as refusal:
        list(batches(Split(out, "test"), 8))
    assert "\n" not in str(refusal.value)


def test_what_a_split_keeps_in_memory_does_not_grow_with_the_images(tree: Tree, out: Path) -> None:
    index(Data(name=str(tree({"train/a": 4, "val/a": 3}))), out)
    split = Split(out, "test")
    assert isinstance(split.names.blob, np.memmap) and isinstance(split.names.ends, np.memmap)
    assert isinstance(split.labels.base, np.memmap)


def test_an_interrupted_check_continues(tree: Tree, out: Path) -> None:
    root = with_broken(tree, 200, [])
    (out / "facts.jsonl").write_text('{"reason": "seen before"}\n{"reason": "", "rot')
    assert index(Data(name=str(root)), out)["notes"] == [
        "1 of 200 images cannot be read and is left out: train/a/000.png (seen before)"
    ]
    assert not (out / "facts.jsonl").exists()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are printed. Few training images are checked, and decoding is in this process, which has the list."""
    lines: list[str] = []
    monkeypatch.setattr("data.readable.CHECKED", 10)
    monkeypatch.setattr("data.workers.say_once", lines.append)
    monkeypatch.setattr("data.workers.limit", 0)
    return lines


def unchecked(out: Path) -> Path:
    """The file of the first training image that is not decoded by `index`: the second one."""
    return Path(str(Split(out, "train").files[1]))


def test_of_many_training_images_some_are_checked_and_another_broken_one_is_replaced(
    tree: Tree, out: Path, said: list[str]
) -> None:
    root = tree({"train/a": 50, "train/b": 50, "val/a": 4})
    index(Data(name=str(root)), out)
    broken = unchecked(out)
    broken.write_bytes(b"")
    found = index(Data(name=str(root)), out)
    training = found["splits"]["train"]
    assert training == 96 and found["notes"] == [
        "10 of the 96 training images, evenly spaced, were decoded before the training. If another one cannot be read during "
        "the training, the next image is used in its place, and a line names it."
    ]
    split = Split(out, "train")
    x, y = next(batches(split, 4))
    assert said == [f"· {broken.relative_to(root)} cannot be read (empty file); the next image is used in its place"]
    assert (x[1] == x[2]).all() and not (x[0] == x[1]).all() and y.tolist() == [0] * 4
    assert sum(len(x) for x, _ in batches(split, 5)) == training


def test_a_replaced_image_has_its_own_label(tree: Tree, out: Path, said: list[str]) -> None:
    index(Data(name=str(tree({"train/a": 50, "train/b": 50, "val/a": 4}))), out)
    split = Split(out, "train")
    last = int(np.flatnonzero(split.labels == 0)[-1])
    Path(str(split.files[last])).write_bytes(b"")
    _, y = split.__getitems__([last - 1, last])
    assert y.tolist() == [0, 1] and len(said) == 1


def test_where_many_of_the_others_are_broken_the_training_stops(tree: Tree, out: Path, said: list[str]) -> None:
    index(Data(name=str(tree({"train/a": 50, "train/b": 50, "val/a": 4}))), out)
    split = Split(out, "train")
    for i in range(0, len(split), 2):
        Path(str(split.files[i])).write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        list(batches(split, 5))
    assert len(said) == 10
