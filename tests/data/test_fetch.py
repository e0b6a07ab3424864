"""Fetching: the local folder first, then each place in turn; nothing half-fetched or changed is ever used."""

import hashlib
from pathlib import Path

import pytest

from data import fetch

GOOD = b"right bytes"
FILES = {"a.bin": hashlib.sha256(GOOD).hexdigest()}


def good(folder: Path) -> None:
    (folder / "a.bin").write_bytes(GOOD)


def changed(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"other bytes")


def unreachable(folder: Path) -> None:
    (folder / "a.bin").write_bytes(GOOD[:3])
    raise OSError("no route to host")


def never(folder: Path) -> None:
    raise AssertionError("asked although the files are there")


def with_providers(monkeypatch: pytest.MonkeyPatch, *providers: fetch.Provider) -> None:
    monkeypatch.setitem(fetch.SOURCES, "set", (FILES, [], list(providers)))
    monkeypatch.delenv("RESPRESS_DATA", raising=False)


def test_the_first_place_that_has_the_right_files_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_providers(monkeypatch, unreachable, changed, good, never)
    folder = fetch.fetch("set", tmp_path)
    assert (folder / "a.bin").read_bytes() == GOOD
    assert [p.name for p in tmp_path.iterdir()] == ["set"]  # no leftovers of the attempts
    with_providers(monkeypatch, never)
    assert fetch.fetch("set", tmp_path) == folder


def test_a_local_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_providers(monkeypatch, never)
    (tmp_path / "mine").mkdir()
    good(tmp_path / "mine")
    monkeypatch.setenv("RESPRESS_DATA", str(tmp_path / "mine"))
    assert fetch.fetch("set", tmp_path / "cache") == tmp_path / "mine"


def test_a_file_changed_in_the_cache_is_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_providers(monkeypatch, good)
    (tmp_path / "set").mkdir()
    changed(tmp_path / "set")
    assert (fetch.fetch("set", tmp_path) / "a.bin").read_bytes() == GOOD


def test_failure_lists_every_place_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_providers(monkeypatch, unreachable, changed)
    with pytest.raises(ValueError, match=r"unreachable: no route.*changed: a\.bin.*RESPRESS_DATA"):
        fetch.fetch("set", tmp_path)
    assert not list(tmp_path.iterdir())
