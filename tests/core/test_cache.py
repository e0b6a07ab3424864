"""The stage cache: what is part of a key, what a manifest records, and that no crash leaves a half-finished stage."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from core import cache, claim, environment, hardware
from core.cache import MANIFEST, Artifact, Stages, locked
from core.config import Config
from core.owner import Owner

PROJECT = Path(__file__).resolve().parents[2]


class Options(Config):
    size: int = 1


def write(config: Options, out: Path, **inputs: Any) -> dict[str, Any]:
    """A stage that continues from a checkpoint of its own, as training does, and removes it when it is done."""
    checkpoint = out / "checkpoint"
    for step in range(2):
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        if step >= done:
            (out / f"part{step}").write_text("x" * config.size)
            checkpoint.write_text(str(step + 1))
    checkpoint.unlink(missing_ok=True)
    return {"size": config.size}


def key(artifact: Artifact) -> str:
    return artifact.path.name


# The key; tests/core/test_digest.py has the code that is part of it.


def change_config(step: Stages, file: Path) -> Artifact:
    return step(write, Options(size=2), context="here", file=file)


def change_context(step: Stages, file: Path) -> Artifact:
    return step(write, Options(), context={"machine": "elsewhere"}, file=file)


def change_placed_config(step: Stages, file: Path) -> Artifact:
    return step(write, Options(), context=["here", Options(size=3)], file=file)


def change_content(step: Stages, file: Path) -> Artifact:
    file.write_text("other weights")
    return step(write, Options(), context="here", file=file)


def change_input_name(step: Stages, file: Path) -> Artifact:
    return step(write, Options(), context="here", other=file)


@pytest.mark.parametrize("change", [change_config, change_context, change_placed_config, change_content, change_input_name])
def test_config_context_and_inputs_are_in_the_key(tmp_path: Path, change: Callable[[Stages, Path], Artifact]) -> None:
    file = tmp_path / "weights"
    file.write_text("weights")
    step = Stages(tmp_path / "stages")
    before = step(write, Options(), context="here", file=file)
    assert key(change(step, file)) != key(before)
    file.write_text("weights")
    again = step(write, Options(), context="here", file=file)
    assert key(again) == key(before) and again.manifest["cached"]


def test_a_stage_is_finished_once_it_has_run_with_the_same_config_context_and_inputs(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("weights")
    step = Stages(tmp_path / "stages")
    assert not step.finished(write, Options(), context="here", file=file)
    step(write, Options(), context="here", file=file)
    assert step.finished(write, Options(), context="here", file=file)
    assert not step.finished(write, Options(size=2), context="here", file=file)
    assert len(step.used) == 1


def test_the_label_is_not_in_the_key_and_artifacts_count_by_their_content(tmp_path: Path) -> None:
    one, other = Stages(tmp_path / "one"), Stages(tmp_path / "other")
    for step in (one, other):
        first = step(write, Options(), label=step.root.name)
        step(write, Options(size=5), model=first)
    assert [key(a) for a in one.used] == [key(a) for a in other.used]
    assert len(set(map(key, one.used))) == 2
    assert one.used[0].manifest["name"] == "write one"


def test_used_lists_every_artifact_once_in_order(tmp_path: Path) -> None:
    step = Stages(tmp_path)
    first, second = step(write, Options()), step(write, Options(size=2))
    step(write, Options())
    assert [artifact.path for artifact in step.used] == [first.path, second.path]


def test_a_stage_that_is_to_run_again_replaces_its_result_once(tmp_path: Path) -> None:
    ran: list[str] = []

    def count(config: Options, out: Path) -> dict[str, Any]:
        ran.append("count")
        (out / "result").write_text(str(len(ran)))
        return {"ran": len(ran)}

    count.__module__ = write.__module__
    before, kept = Stages(tmp_path)(count, Options()), Stages(tmp_path)(write, Options())
    step = Stages(tmp_path, again=["count"])
    for _ in range(2):  # the second call of one run finds the new result
        after = step(count, Options())
        assert after.path == before.path and after.metrics == {"ran": 2}
    assert (after.path / "result").read_text() == "2" and not list(tmp_path.glob("*.partial"))
    assert step(write, Options()).manifest["cached"] and kept.path.exists()
    assert Stages(tmp_path)(count, Options()).metrics == {"ran": 2}, "a later run takes the new result"


# The manifest.


def test_the_manifest_records_date_machine_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "now", lambda: "2026-11-20T08:00:00+00:00")
    made = Stages(tmp_path)(write, Options())
    manifest = json.loads((made.path / MANIFEST).read_text())
    assert manifest["created"] == "2026-11-20T08:00:00+00:00"
    assert manifest["machine"] == environment.machine()
    assert manifest["machine"]["cpu"] == hardware.cpu()["cpu"] and {"cores", "isa", "gpu", "os"} <= manifest["machine"].keys()
    assert manifest["versions"] == environment.versions() and {"python", "torch", "onnxruntime"} <= manifest["versions"].keys()
    assert manifest["metrics"] == {"size": 1} and manifest["config"] == {"size": 1} and manifest["inputs"] == {}


def test_the_manifest_names_the_inputs_by_their_content(tmp_path: Path) -> None:
    step, file = Stages(tmp_path / "stages"), tmp_path / "weights"
    file.write_text("weights")
    first, second = step(write, Options()), step(write, Options(size=2))
    made = step(write, Options(size=3), model=first, engines={"a": first, "b": second}, file=file, load=write)
    contents = first.manifest["content"], second.manifest["content"]
    assert made.manifest["inputs"] == {
        "model": contents[0],
        "engines": {"a": contents[0], "b": contents[1]},
        "file": hashlib.sha256(b"weights").hexdigest(),
    }


def test_another_version_or_date_is_not_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stages(tmp_path)
    made = step(write, Options())
    monkeypatch.setattr(cache, "versions", lambda: {"torch": "99"})
    monkeypatch.setattr(cache, "now", lambda: "2030-01-01T00:00:00+00:00")
    again = step(write, Options())
    assert again.manifest["cached"] and again.manifest["versions"] == made.manifest["versions"]
    assert step(write, Options(size=2)).manifest["versions"] == {"torch": "99"}


def test_now_is_utc_to_the_second() -> None:
    assert environment.now().endswith("+00:00") and len(environment.now()) == len("2026-11-20T08:00:00+00:00")


# Crashes.


class Crash(BaseException):
    """The process dies here."""


def crash_at(line: int, work: Callable[[], object]) -> bool:
    """Whether `work`, which dies when it has executed `line` lines of the cache and of the stage, died."""
    files = (cache.__file__, claim.__file__, __file__)
    executed = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal executed
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            executed += 1
            if executed > line:
                raise Crash
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Crash:
        return True
    finally:
        sys.settrace(before)
    return False


# A file that is open when the process dies is not closed by the cache.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_crash_at_any_line_leaves_nothing_that_is_taken_as_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process that has crashed does not exist any more; here it still does, with its heartbeat.
    monkeypatch.setattr(Owner, "alive", False)
    monkeypatch.setattr(claim, "DEAD", 0.0)
    monkeypatch.setattr(claim.Claim, "beat", lambda _: None)
    whole = Stages(tmp_path / "whole")(write, Options())
    files = sorted(path.name for path in whole.path.iterdir())
    line, crashes = 0, 0
    while True:
        root = tmp_path / str(line)
        if not crash_at(line, lambda: Stages(root)(write, Options())):  # noqa: B023 - called at once
            break
        crashes += 1
        for folder in root.glob("*"):
            assert folder.suffix == ".partial" or sorted(path.name for path in folder.iterdir()) == files
        crash_at(line // 2 + 20, lambda: Stages(root)(write, Options()))  # noqa: B023 - and the second try, elsewhere
        again = Stages(root)(write, Options())
        assert again.manifest["content"] == whole.manifest["content"], f"crash at line {line}"
        assert [path.name for path in root.iterdir()] == [whole.path.name]
        assert sorted(path.name for path in again.path.iterdir()) == files
        line += 1
    assert crashes > 40, "every line of the cache and of the stage was tried"


def test_a_stage_that_fails_continues_from_what_it_left(tmp_path: Path) -> None:
    def fails(config: Options, out: Path) -> dict[str, Any]:
        seen = sorted(path.name for path in out.iterdir())
        (out / "checkpoint").write_text("1")
        if not seen:
            raise RuntimeError("out of memory")
        return {"seen": seen}

    step = Stages(tmp_path)
    with pytest.raises(RuntimeError):
        step(fails, Options())
    assert step.used == []
    assert step(fails, Options()).metrics == {"seen": ["checkpoint"]}


# Two runs in one folder.

HOLD = "import sys, time; from pathlib import Path; from core.cache import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(tmp_path: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"another run is writing to {tmp_path}; wait for it, or pass another OUT"):
            locked(tmp_path).__enter__()
        with locked(tmp_path / "other"):
            pass
        first.send_signal(how)
        first.wait()
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to OUT .* expected a folder"), locked(tmp_path / "file/out"):
        pass


def test_an_input_that_is_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing.pth cannot be read \(no such file or directory\)"):
        Stages(tmp_path)(write, Options(), file=tmp_path / "missing.pth")
