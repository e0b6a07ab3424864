"""Batches arrive whole, whatever shared memory there is; workers that are killed cost one line."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from data import workers
from data.augment import Augment
from data.index import Data, index
from data.loader import Split, batches
from pipeline.options import limit_workers
from tests.data.conftest import Tree

PROJECT = Path(__file__).resolve().parents[2]
GROUPS = [[0, 1], [2, 3], [4, 5], [6]]


class Numbers(Dataset[Any]):
    """Every index as a small image of that value, and as a label."""

    def __getitems__(self, indices: list[int]) -> Any:
        return torch.tensor(indices, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone(), torch.tensor(
            indices
        )


class Killed(Numbers):
    """Its process is killed while it decodes image 4."""

    def __init__(self, number: int) -> None:
        self.number, self.home = number, os.getpid()

    def __getitems__(self, indices: list[int]) -> Any:
        if 4 in indices and os.getpid() != self.home:
            os.kill(os.getpid(), self.number)
        return super().__getitems__(indices)


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(workers, "say_once", lines.append)
    return lines


def check(found: list[Any]) -> None:
    """Every batch is there, in order, with the right values."""
    assert [y.tolist() for _, y in found] == GROUPS
    for x, y in found:
        assert x.shape == (len(y), 3, 8, 8)
        assert (x == y.reshape(-1, 1, 1, 1)).all()


@pytest.mark.parametrize("free", [0, 1000, 2**40], ids=lambda free: f"{free} bytes free")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_batches_arrive_through_memory_or_pipes(
    count: int, free: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "free_shared_memory", lambda: free)
    check(list(workers.results(Numbers(), GROUPS, count)))
    assert all("--shm-size" in line for line in said)
    assert bool(said) == (count > 0 and free < 2**40)


@pytest.mark.parametrize("error", [RuntimeError("unable to allocate shared memory(shm)"), OSError(errno.ENOSPC, "full")])
def test_a_batch_that_did_not_fit_after_all_comes_through_a_pipe(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(tensor: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(torch.Tensor, "share_memory_", fails)
    check(list(workers.results(Numbers(), GROUPS, 1)))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSYS, errno.EAGAIN, errno.EACCES], ids=os.strerror)
def test_without_worker_processes_it_works_in_this_one(number: int, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter.__init__", none)
    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter.__del__", lambda self: None)
    check(list(workers.results(Numbers(), GROUPS, 2)))
    assert said == [
        f"no worker processes ({os.strerror(number)}): images are decoded in one process, which is slower; {workers.FIX}"
    ]


@pytest.mark.parametrize(("number", "todo"), [(signal.SIGBUS, "--shm-size=1g"), (signal.SIGKILL, "more memory")])
def test_a_worker_that_is_killed_costs_one_line(number: signal.Signals, todo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    with pytest.raises(ValueError, match=rf"decodes images was killed \({number.name}\).*{todo}"):
        list(workers.results(Killed(number), GROUPS, 1))


@pytest.mark.parametrize("options", ["size=100k", "size=64m", "ro"])
def test_a_real_dev_shm_of_every_kind(options: str) -> None:
    """In a namespace of its own: batches of 12 MB, kept by the caller, 96 MB in all."""
    script = (
        "import torch; from torch.utils.data import Dataset; from data import workers\n"
        "class Large(Dataset):\n"
        "    def __getitems__(self, indices): return torch.full((20, 3, 224, 224), float(indices[0])), torch.tensor(indices)\n"
        "found = list(workers.results(Large(), [[i] for i in range(8)], 2))\n"
        "assert [float(x.mean()) for x, y in found] == list(range(8)) == [int(y) for x, y in found]\n"
        "print('whole')"
    )
    mount = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    namespace = ["unshare", "-Urm", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("cannot make a namespace with another /dev/shm here")
    line = [*namespace, sys.executable, "-c", script]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["whole"], done.stderr
    assert "--shm-size" in done.stdout
    assert "Traceback" not in done.stderr


class Arrays(Numbers):
    """Two arrays instead of tensors."""

    def __getitems__(self, indices: list[int]) -> Any:
        return np.asarray(indices, np.uint64), np.asarray(indices, np.uint8)


def test_arrays_stay_arrays_and_nothing_is_said(said: list[str]) -> None:
    found = list(workers.results(Arrays(), GROUPS, 1))
    assert [[part.dtype for part in pair] for pair in found] == [[np.uint64, np.uint8]] * 4
    assert [pair[0].tolist() for pair in found] == GROUPS and not said


# Python 3.14 starts a fork server, Macs a new Python: each needs two seconds to import torch.
@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_workers_that_are_not_forked_decode_the_same(
    start: str, tree: Tree, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(Data(name=str(tree({"train/a": 20, "val/a": 4})), input_size=32), out)
    split = Split(out, "train", Augment())
    monkeypatch.setattr("core.hardware.cores", lambda: 1)
    expected = list(batches(split, 5, shuffle=True))
    monkeypatch.setattr(workers, "START", start)
    found = list(batches(split, 5, shuffle=True))
    assert len(found) == len(expected) == 3
    for (x, y), (other, label) in zip(found, expected, strict=True):
        assert (x == other).all() and (y == label).all()


def test_a_script_that_workers_run_again_costs_one_line(tree: Tree, out: Path, tmp_path: Path) -> None:
    index(Data(name=str(tree({"train/a": 20, "val/a": 4})), input_size=32), out)
    lines = [
        "from pathlib import Path",
        "from data import workers",
        "from data.loader import Split, batches",
        "workers.START = 'spawn'",
        "try:",
        f"    print(len(list(batches(Split(Path({str(out)!r}), 'train'), 5))))",
        "except ValueError as error:",
        "    print(error)",
    ]
    script = tmp_path / "script.py"
    script.write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.splitlines()[-1] == workers.UNGUARDED, done.stderr


@pytest.mark.parametrize(
    ("limit", "groups", "count"), [(None, 1, 0), (None, 2, 2), (None, 100, 4), (0, 100, 0), (1, 100, 1), (8, 100, 8), (8, 3, 3)]
)
def test_the_number_of_workers_follows_the_cores_or_the_flag(
    limit: int | None, groups: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.hardware.cores", lambda: 4)
    monkeypatch.setattr(workers, "limit", None)
    assert limit_workers(limit) == limit
    assert workers.wanted(groups) == count
