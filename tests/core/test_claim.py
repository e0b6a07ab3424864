"""Who owns a folder: one process at a time, until it ends, dies, or is not heard of any more."""

import dataclasses
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core import claim, owner
from core.cache import Artifact, Stages, locked
from core.claim import Claim, claimed, mark_of
from core.config import Config
from core.owner import Owner, started

ELSEWHERE = {"boot": "0" * 12, "machine": "elsewhere"}


def never() -> bool:
    return False


def ignore(_: Owner) -> None:
    pass


def gone() -> Owner:
    """A process of this machine that does not exist any more."""
    with subprocess.Popen(["true"]) as process:
        number = process.pid
    return dataclasses.replace(Owner.here(), process=number)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT", 0.05)
    monkeypatch.setattr(claim, "DEAD", 0.4)


def owned(folder: Path, by: Owner) -> Claim:
    """A folder that `by` owns, with a file in it. There is no heartbeat."""
    found = Claim(folder, by)
    assert found.make()
    (found.files / "checkpoint").write_text("1")
    return found


@contextmanager
def beating(found: Claim) -> Iterator[None]:
    thread = threading.Thread(target=found.beat)
    thread.start()
    try:
        yield
    finally:
        found.ended.set()
        thread.join()


@pytest.mark.parametrize("by", [gone, lambda: dataclasses.replace(Owner.here(), **ELSEWHERE)], ids=["dead", "silent"])
def test_the_next_process_takes_over_what_a_dead_owner_left(by: Callable[[], Owner], tmp_path: Path) -> None:
    former = owned(tmp_path / "folder", by())
    began = time.monotonic()
    with claimed(tmp_path / "folder", never, ignore) as found:
        waited = time.monotonic() - began
        assert found is not None and (found.files / "checkpoint").read_text() == "1"
        assert former.lost and not former.files.exists() and not found.lost
        assert (waited >= claim.DEAD) == (former.owner.alive is None), "a process of this machine is known to be dead"
    assert not (tmp_path / "folder").exists()


def test_after_an_error_the_files_stay_for_the_next_process(tmp_path: Path) -> None:
    def fail() -> None:
        with claimed(tmp_path / "folder", never, ignore) as found:
            assert found is not None
            (found.files / "checkpoint").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    mark = mark_of(tmp_path / "folder")
    assert mark is not None and mark.suffix == claim.LEFT
    with claimed(tmp_path / "folder", never, ignore) as found:
        assert found is not None and (found.files / "checkpoint").exists()


@pytest.mark.parametrize("content", [None, "epoch.pt"])
def test_a_folder_without_an_owner_is_removed_after_a_while(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    if content:
        (tmp_path / "folder" / content).write_text("of an earlier version")
    began = time.monotonic()
    with claimed(tmp_path / "folder", never, ignore) as found:
        assert found is not None and not list(found.files.iterdir())
    assert time.monotonic() - began >= claim.DEAD


@pytest.mark.parametrize("where", [{}, ELSEWHERE], ids=["here", "elsewhere"])
def test_a_living_owner_is_waited_for(where: dict[str, str], tmp_path: Path) -> None:
    former = owned(tmp_path / "folder", dataclasses.replace(Owner.here(), **where))
    busy: list[Owner] = []
    with beating(former):
        threading.Timer(3 * claim.DEAD, former.end, [True]).start()
        began = time.monotonic()
        with claimed(tmp_path / "folder", never, busy.append) as found:
            assert found is not None and time.monotonic() - began >= 3 * claim.DEAD
    assert [str(one) for one in busy] == [str(former.owner)]


def test_one_of_several_that_wait_takes_over(tmp_path: Path) -> None:
    owned(tmp_path / "folder", gone())
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with claimed(tmp_path / "folder", never, ignore) as found:
            assert found is not None
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_owner_without_proc_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    here, past = Owner.here(), gone()
    assert here.alive and past.alive is False and started(here.process).isdigit()
    read = Path.read_text

    def none(path: Path, *args: Any, **kwargs: Any) -> str:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return read(path, *args, **kwargs)

    exists = Path.exists
    monkeypatch.setattr(Path, "read_text", none)
    monkeypatch.setattr(Path, "exists", lambda path: not str(path).startswith("/proc") and exists(path))
    assert started(os.getpid()) == "0" and started(past.process) == ""


def test_the_name_of_an_owner_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner.platform, "node", lambda: "node-7.cluster.local")
    here = Owner.here()
    assert Owner.named(here.name) == here and str(here) == f"process {os.getpid()} on node-7_cluster_local"


# Stages.


class Options(Config):
    size: int = 1


@pytest.mark.parametrize("where", [{}, ELSEWHERE], ids=["here", "elsewhere"])
def test_two_jobs_that_want_the_same_stage_share_it(
    where: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def slow(config: Options, out: Path) -> dict[str, Any]:
        ran.append(1)
        time.sleep(0.5)
        (out / "result").write_text("done")
        return {"by": len(ran)}

    found: list[Artifact] = []

    def job() -> None:
        found.append(Stages(tmp_path)(slow, Options()))

    first = threading.Thread(target=job)
    here = Owner.here
    monkeypatch.setattr(Owner, "here", lambda: dataclasses.replace(here(), **where))
    first.start()
    while not list(tmp_path.glob("*.partial/*.owner")):
        time.sleep(0.005)
    monkeypatch.setattr(Owner, "here", here)
    job()
    first.join()
    assert ran == [1] and {stage.path for stage in found} == {found[0].path}
    assert sorted(stage.manifest["cached"] for stage in found) == [False, True]
    output = " ".join(capsys.readouterr().out.split())
    assert re.search(r"slow: process \d+ on \S+ is making it; waiting for the result", output)
    assert re.search(r"slow: 0\.\d s slow: cached$", output)


def test_an_owner_that_was_thought_dead_takes_the_result_of_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped for longer than a heartbeat may be missing: its files are gone when it goes on."""
    here = Owner.here
    others: list[Artifact] = []

    def stage(config: Options, out: Path) -> dict[str, Any]:
        if not others:
            others.append(Artifact(out, {}))
            monkeypatch.setattr(Owner, "here", here)
            others.append(Stages(tmp_path)(stage, Options()))
        (out / "result").write_text(str(len(others)))
        return {}

    monkeypatch.setattr(Owner, "here", lambda: dataclasses.replace(here(), **ELSEWHERE))
    monkeypatch.setattr(Claim, "beat", lambda _: None)
    made = Stages(tmp_path)(stage, Options())
    assert made.path == others[1].path and made.manifest["cached"] and not others[0].path.exists()
    assert (made.path / "result").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]


def test_a_store_that_is_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    def stage(config: Options, out: Path) -> None:
        shutil.rmtree(tmp_path / "stages")
        (out / "result").write_text("done")

    with pytest.raises(FileNotFoundError):
        Stages(tmp_path / "stages")(stage, Options())


@pytest.mark.parametrize("end", [gone, Owner.here], ids=["owner", "none"])
def test_what_an_owner_left_that_died_after_its_work_is_removed(end: Callable[[], Owner], tmp_path: Path) -> None:
    def stage(config: Options, out: Path) -> None:
        (out / "result").write_text("done")

    made = Stages(tmp_path)(stage, Options())
    left = owned(made.path.with_name(made.path.name + ".partial"), end())
    if end is not gone:
        left.mark.unlink()
    assert Stages(tmp_path)(stage, Options()).manifest["cached"]
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]


def test_a_run_on_another_machine_locks_a_folder(tmp_path: Path) -> None:
    other = owned(tmp_path / ".running", dataclasses.replace(Owner.here(), **ELSEWHERE))
    with beating(other), pytest.raises(ValueError, match="another run is writing to"), locked(tmp_path):
        pass
    with locked(tmp_path):  # its heartbeat has ended
        pass
    assert not list(tmp_path.iterdir())
