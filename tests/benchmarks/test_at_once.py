"""Calls in several processes: as if they were made one after the other, and none outlives an error."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from benchmarks.at_once import at_once
from core import hardware


def threads(number: int) -> tuple[int, int, int]:
    return number, torch.get_num_threads(), os.getpid()


def fails_or_waits(number: int, marks: Path) -> None:
    """Call 0 fails once call 1 runs; call 1 runs for longer than the test may take."""
    (marks / str(number)).touch()
    while number == 1 or not (marks / "1").exists():
        time.sleep(0.01)
    raise ValueError("lower the learning rate")


def dies(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_the_processes_divide_the_cores() -> None:
    alone = list(at_once(1, threads, [(0,), (1,)]))
    assert [number for number, *_ in alone] == [0, 1] and {process for *_, process in alone} == {os.getpid()}
    found = list(at_once(2, threads, [(i,) for i in range(4)]))
    assert [number for number, *_ in found] == [0, 1, 2, 3] and os.getpid() not in {process for *_, process in found}
    assert {count for _, count, _ in found} == {max(1, hardware.cores() // 2)}


def test_an_error_ends_all_processes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower the learning rate"):
        list(at_once(2, fails_or_waits, [(i, tmp_path) for i in range(2)]))
    assert not multiprocessing.active_children()


def test_a_killed_process_is_an_error_in_one_line() -> None:
    with pytest.raises(ValueError, match="one of the 2 processes was killed, perhaps for lack of memory; the same command"):
        list(at_once(2, dies, [(0,), (1,)]))
