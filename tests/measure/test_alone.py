"""Each engine in a process of its own; an engine that fails there costs a note, not the run."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import targets
from measure import alone_process
from measure.alone import Alone, alone
from measure.alone_process import memory, peak
from measure.calls import Runner
from tests.conftest import Small

ENGINE = """
import numpy as np

def load(engine, threads):
    print("a runtime that greets")
    if engine.name == "broken":
        raise RuntimeError("this engine is broken")
    held = np.ones({"large": 16_000_000}.get(engine.name, 1))  # 128 MB
    return lambda x: held[:1] * x.sum()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "engine_of_a_test.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "engine_of_a_test"
    sys.modules.pop("engine_of_a_test", None)


def measured(name: str, module: str, small: Small, folder: Path) -> dict[str, Any]:
    load = __import__(module).load
    return alone(Alone(engine=name, threads=1), folder, load=load, engine=folder / name, images=small.images)


def test_every_engine_has_its_own_memory_and_a_broken_one_is_noted(module: str, small: Small, tmp_path: Path) -> None:
    found = {name: measured(name, module, small, tmp_path) for name in ("small", "large", "broken")}
    assert 100e6 < found["large"]["memory_bytes"] - found["small"]["memory_bytes"] < 160e6
    assert found["large"]["first_inference_ms"] > 0 and "notes" not in found["large"]
    assert found["broken"] == {
        "notes": ["Memory and time to the first inference of broken could not be measured: RuntimeError: this engine is broken"]
    }


def test_memory_of_this_process_is_not_counted(module: str, small: Small, tmp_path: Path) -> None:
    """Linux lets a new process start with the ru_maxrss of its parent."""
    ballast = np.ones(50_000_000)  # 400 MB
    assert 0 <= measured("small", module, small, tmp_path)["memory_bytes"] < ballast.nbytes / 4 < peak()


def test_a_load_function_without_a_name_is_noted(small: Small, tmp_path: Path) -> None:
    def load(engine: Path, threads: int) -> Runner:
        return lambda x: x

    load.__module__ = "json"  # quick to import
    metrics = alone(Alone(engine="a"), tmp_path, load=load, engine=tmp_path, images=small.images)
    assert list(metrics) == ["notes"] and len(metrics["notes"]) == 1


def test_an_engine_of_a_target_is_measured(small: Small, tmp_path: Path) -> None:
    target, engine = targets.get("onnxruntime"), tmp_path / "engine"
    engine.mkdir()
    target.build(target.Options(), engine, model=small.onnx, images=small.images)
    metrics = alone(Alone(engine="baseline"), tmp_path, load=target.load, engine=engine, images=small.images)
    assert "notes" not in metrics and metrics["memory_bytes"] > 10e6


def test_without_proc_the_memory_is_that_of_getrusage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone_process, "PROC", tmp_path / "none")
    assert memory() == peak() > 10e6
    monkeypatch.setattr(alone_process, "PROC", tmp_path)
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    assert (memory(), peak()) == (1024 * 1024, 2048 * 1024)
    assert (tmp_path / "clear_refs").read_text() == "5", "the peak of the time before is forgotten"
