"""The engines of one target, with stages that only note that they ran: what fails costs its row and never the run."""

import errno
from pathlib import Path

import onnx
import pytest

from core.engine_name import EngineName
from export import targets
from pipeline.failures import costs_its_row
from tests.pipeline.noted import WRONG, NotedStages, forms, pressed


@pytest.fixture
def stages(tmp_path: Path) -> NotedStages:
    return NotedStages(tmp_path)


def test_the_ladder_ends_with_the_first_rung_that_passes(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    result = pressed(stages, monkeypatch)
    assert {rung.name.form: rung.verdict == "pass" for rung in result.rungs} == {"mixed1": False, "mixed2": True}
    assert forms(result.engines) == set(WRONG) - {"student-qat"}
    assert not result.refused and result.bundle


@pytest.mark.parametrize(
    ("fails", "rows", "rungs"),
    [
        ("place_qdq onnxruntime", {"student-int8"}, []),
        ("half student", {"student-fp16"}, ["mixed1", "mixed2"]),
        ("build student-int8/onnxruntime", {"student-int8"}, []),
        ("build student-fp16/onnxruntime", {"student-fp16"}, ["mixed1", "mixed2"]),
        ("build student-fp32/onnxruntime", {"student-fp32"}, ["mixed1", "mixed2"]),
        ("predict student-fp16/onnxruntime on val", {"student-fp16"}, ["mixed1", "mixed2"]),
        ("rank_layers onnxruntime", {"student-mixed"}, ["qat"]),
        ("build student-mixed1/onnxruntime", {"student-mixed1"}, ["mixed2"]),
        ("predict student-mixed2/onnxruntime on val", {"student-mixed2"}, ["mixed1", "qat"]),
    ],
)
@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError, onnx.checker.ValidationError], ids=lambda e: e.__name__)
def test_what_fails_costs_its_row(
    fails: str, rows: set[str], rungs: list[str], error: type[Exception], stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.failing[fails] = error("first\nsecond")
    result = pressed(stages, monkeypatch)
    assert forms(result.refused) == rows
    assert all(reason.endswith("first second") for reason in result.refused.values())
    assert [rung.name.form for rung in result.rungs] == rungs
    assert not forms(result.engines) & rows and set(result.engines) == set(result.held_out)
    assert result.candidate in result.engines and result.bundle


@pytest.mark.parametrize(
    ("untimed", "chosen"),
    [
        ({"student-fp16"}, "student-mixed2"),
        ({"student-mixed2"}, "student-fp16"),
        ({"student-fp32", "student-mixed1"}, "student-mixed2"),
        ({"baseline-fp32"}, "student-int8"),  # without a baseline all are inconclusive, and the quickest is taken
    ],
)
@pytest.mark.parametrize("error", [ValueError, MemoryError], ids=lambda e: e.__name__)
def test_an_engine_that_cannot_be_timed_costs_its_row(
    untimed: set[str], chosen: str, error: type[Exception], stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.untimed = {key: error("first\nsecond") for key in untimed}
    result = pressed(stages, monkeypatch)
    assert forms(result.refused) == untimed
    assert all(reason.startswith("it was built and cannot be timed: ") for reason in result.refused.values())
    assert all(reason.endswith("first second") for reason in result.refused.values())
    assert forms(result.engines) == set(WRONG) - {"student-qat"} - untimed
    assert set(result.engines) == set(result.held_out) and {rung.name for rung in result.rungs} <= set(result.engines)
    assert result.candidate and result.candidate.key == chosen and result.bundle


def test_a_target_without_an_engine_that_can_be_timed_has_the_reason(
    stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.untimed = {key: RuntimeError("out of memory") for key in WRONG}
    result = pressed(stages, monkeypatch)
    assert result.unavailable == "it was built and cannot be timed: out of memory"
    assert not result.engines and not result.bundle and not result.candidate


@pytest.mark.parametrize("runs", [True, False], ids=["runs here", "is only built here"])
@pytest.mark.parametrize("error", [ValueError, TypeError], ids=lambda e: e.__name__)
def test_if_the_chosen_engine_cannot_be_packed_nothing_ships(
    error: type[Exception], runs: bool, stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.get("onnxruntime"), "cannot_run", lambda: None if runs else "no such processor")
    chosen = pressed(stages, monkeypatch).candidate
    stages.failing["bundle onnxruntime"] = error("first\nsecond")
    result = pressed(stages, monkeypatch)
    assert result.candidate == chosen is not None and result.bundle is None
    assert set(result.refused) == {chosen} and chosen not in result.engines and result.engines
    assert result.refused[chosen].startswith("it was built and cannot be packed: ")
    assert result.refused[chosen].endswith("first second")


@pytest.mark.parametrize(
    ("fails", "candidate"),
    [
        ("student-mixed2", "student-fp16"),  # the milder one
        ("student-fp16", "student-mixed2"),
        ("baseline-fp32", "student-mixed2"),
    ],
)
def test_an_engine_that_fails_on_the_images_that_judge_costs_its_row(
    fails: str, candidate: str, stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.failing[f"predict {fails}/onnxruntime on test"] = RuntimeError("no memory")
    result = pressed(stages, monkeypatch)
    assert result.refused == {EngineName.parse(f"{fails}/onnxruntime"): "it was built and does not run: no memory"}
    assert fails not in forms(result.engines)
    assert forms(result.predictions) == {"baseline-fp32", "student-fp16", "student-mixed2"} - {fails}
    assert result.candidate and result.candidate.key == candidate and result.bundle


@pytest.mark.parametrize("fails", ["timed", "packed"])
def test_a_full_disk_while_engines_are_timed_or_packed_ends_the_run(
    fails: str, stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    if fails == "timed":
        stages.untimed["student-int8"] = full
    else:
        stages.failing["bundle onnxruntime"] = full
    with pytest.raises(OSError, match="No space left"):
        pressed(stages, monkeypatch)


def test_a_run_after_an_engine_failed_has_it_back(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.untimed["student-mixed2"] = RuntimeError("out of memory")
    before = pressed(stages, monkeypatch, gate__max_drop=1)
    assert "student-mixed2" in forms(before.refused)
    stages.untimed.clear()
    result = pressed(stages, monkeypatch, before, gate__max_drop=1)
    assert not result.refused and "student-mixed2" in forms(result.engines)


def test_a_training_that_fails_costs_the_row_of_its_rung(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.failing = {"train": TypeError("no tracing"), "build student-mixed2/onnxruntime": RuntimeError("no kernel")}
    result = pressed(stages, monkeypatch)
    assert forms(result.refused) == {"student-mixed2", "student-qat"}
    assert [rung.name.form for rung in result.rungs] == ["mixed1"]
    assert result.candidate


def test_engines_that_the_device_builds_need_their_files(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    target = targets.get("onnxruntime")
    monkeypatch.setattr(target, "unavailable", lambda: "no GPU here")
    monkeypatch.setattr(target, "prepare", lambda: None)
    prepared = pressed(stages, monkeypatch)
    assert prepared.bundle and prepared.unavailable == "no GPU here"
    stages.failing["<lambda> onnxruntime"] = ValueError("fc.bias holds 1e+05, float16 ends at 65504")
    result = pressed(stages, monkeypatch)
    assert result.bundle is None
    assert result.unavailable == "no GPU here; fc.bias holds 1e+05, float16 ends at 65504"


NAME = EngineName("student", "int8", "", "onnxruntime")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interruption_and_a_full_disk_end_the_run(error: BaseException) -> None:
    refused: dict[EngineName, str] = {}
    with pytest.raises(type(error)), costs_its_row(NAME, refused):
        raise error
    assert not refused


def test_a_fault_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    refused: dict[EngineName, str] = {}
    with costs_its_row(NAME, refused, "its build failed: "):
        raise AttributeError("no such thing")
    assert refused == {NAME: "its build failed: AttributeError: no such thing"}
    assert "Traceback" in capsys.readouterr().err
