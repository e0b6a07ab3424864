"""What is remembered of a folder of many files: every change that is noticed without it is noticed with it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data import remembered
from data.index import Data, fingerprint
from tests.data.conftest import Tree

FILES = 16


@pytest.fixture
def root(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `FILES` files, which are many; its folders count as settled."""
    monkeypatch.setattr(remembered, "SMALL", 3)
    monkeypatch.setattr(remembered, "SETTLED", -(10**15))
    return tree({"train/a": 5, "train/b": 5, "train/b/deep": 2, "val/a": 2, "val/b": 2})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files whose status was read."""
    files: list[bytes] = []
    status_of = remembered.status_of

    def counted(entry: os.DirEntry[bytes]) -> os.stat_result:
        files.append(entry.path)
        return status_of(entry)

    monkeypatch.setattr(remembered, "status_of", counted)
    return files


def hashed(root: Path, cache: str = "cache") -> str | None:
    return fingerprint(Data(name=str(root), cache=str(root.parent / cache)))


def test_every_file_takes_one_stat_and_later_none(root: Path, read: list[bytes]) -> None:
    before = hashed(root)
    assert len(read) == len(set(read)) == FILES
    assert hashed(root) == before and len(read) == FILES
    assert hashed(root, "another") == before


def test_small_sets_are_not_remembered(root: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SMALL", FILES)
    assert hashed(root) == hashed(root) and len(read) == 2 * FILES
    assert not (root.parent / "cache").exists()


def added(root: Path) -> None:
    (root / "train" / "b" / "deep" / "new.png").write_bytes(b"")


def removed(root: Path) -> None:
    (root / "val" / "b" / "000.png").unlink()


def renamed(root: Path) -> None:
    (root / "train" / "a" / "001.png").rename(root / "train" / "a" / "other.png")


def replaced(root: Path) -> None:
    (root / "new.png").write_bytes(b"other")
    (root / "new.png").rename(root / "train" / "a" / "003.png")


def written(root: Path) -> None:
    (root / "train" / "a" / "000.png").write_bytes(b"other")


def touched(root: Path) -> None:
    os.utime(root / "train" / "a" / "000.png")


def new_folder(root: Path) -> None:
    shutil.copytree(root / "val" / "a", root / "val" / "c")


def removed_folder(root: Path) -> None:
    shutil.rmtree(root / "train" / "b" / "deep")


@pytest.mark.parametrize("change", [added, removed, renamed, replaced, written, touched, new_folder, removed_folder])
def test_a_change_is_noticed(root: Path, change: Callable[[Path], None]) -> None:
    before = hashed(root)
    change(root)
    after = hashed(root)
    assert after != before
    assert after == hashed(root, "another") == hashed(root)


def test_only_folders_that_changed_are_read_again(root: Path, read: list[bytes]) -> None:
    hashed(root)
    read.clear()
    added(root)
    hashed(root)
    assert {os.path.dirname(file) for file in read} == {os.fsencode(root / "train" / "b" / "deep")} and len(read) == 3


def test_where_a_sampled_file_has_changed_all_are_read_again(root: Path, read: list[bytes]) -> None:
    hashed(root)
    read.clear()
    written(root)
    hashed(root)
    assert len(read) == FILES


def test_a_folder_that_was_changed_just_before_is_read_again(
    root: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "SETTLED", 10**15)
    assert hashed(root) == hashed(root) and len(read) == 2 * FILES


@pytest.mark.parametrize("torn", (False, True))
def test_an_interrupted_reading_continues(root: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch, torn: bool) -> None:
    read_folder = remembered.read_folder

    def stopped(*arguments: object) -> object:
        if len(read) >= 10:
            raise KeyboardInterrupt
        return read_folder(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(remembered, "read_folder", stopped)
    with pytest.raises(KeyboardInterrupt):
        hashed(root)
    monkeypatch.setattr(remembered, "read_folder", read_folder)
    if torn:
        [file] = (root.parent / "cache" / "folders").iterdir()
        file.write_bytes(file.read_bytes()[:-20])
    found = hashed(root)
    assert len(read) == (FILES + 5 if torn else FILES)
    assert found == hashed(root) == hashed(root, "another")


def test_where_nothing_can_be_written_nothing_is_remembered(root: Path, read: list[bytes]) -> None:
    (root.parent / "cache").write_bytes(b"a file")
    assert hashed(root) == hashed(root) and len(read) == 2 * FILES


def test_links_in_circles_and_strange_names(root: Path) -> None:
    (root / "train" / "up").symlink_to(root, target_is_directory=True)
    (root / "train" / "broken").symlink_to("nowhere")
    with open(os.path.join(os.fsencode(root), b"train", b"\xff\n.png"), "wb"):
        pass
    assert hashed(root) == hashed(root) == hashed(root, "another")
