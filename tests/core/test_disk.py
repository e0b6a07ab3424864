"""A full disk costs one line; what is half-written never counts as finished."""

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from core import disk
from core.cache import Stages, locked
from core.config import Config

FULL = Path("/dev/full")  # every write to it fails for lack of space
LINE = "no space left on the disk while writing .*; free some space, or pass another OUT"


def plain() -> None:
    with FULL.open("w") as file:
        file.write("x")


def numpy() -> None:
    with FULL.open("wb", buffering=0) as file:
        np.save(file, np.zeros(10_000))


def pytorch() -> None:
    torch.save(torch.zeros(100_000), FULL)


def quota() -> NoReturn:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/home/me/epoch.pt")


def in_rust() -> NoReturn:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [plain, numpy, pytorch, quota, in_rust])
def test_a_full_disk_costs_one_line(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if write in (numpy, pytorch):  # their errors name no reason
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(ValueError, match=LINE) as caught, disk.full_disk_in_one_line(tmp_path):
        write()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), OSError(errno.EACCES, "no"), KeyError("x"), ValueError("of the user")]
)
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, disk.full_disk_in_one_line(tmp_path):
        raise error
    assert caught.value is error


def stops_half_way(config: Config, out: Path) -> dict[str, Any]:
    (out / "model.bin").write_bytes(b"half")
    plain()
    raise AssertionError


def test_a_stage_that_ran_out_of_space_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=LINE), locked(tmp_path):
        Stages(tmp_path / "stages")(stops_half_way, Config())
    assert [folder.suffix for folder in (tmp_path / "stages").iterdir()] == [".partial"]
    assert not list(tmp_path.rglob("manifest.json"))


def test_temporary_files_go_to_out_where_there_is_no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", None)
        patched.setattr(tempfile, "_get_default_tempdir", none)
        with locked(tmp_path), tempfile.TemporaryDirectory() as folder:
            assert Path(folder).parent == tmp_path / "tmp"


def test_temporary_files_stay_where_the_system_has_them(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    disk.find_temporary_folder(tmp_path)
    assert tempfile.gettempdir() == before
    assert not list(tmp_path.iterdir())
