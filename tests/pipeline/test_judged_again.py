"""A changed gate only judges what was built before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.engine_name import EngineName
from reports.run_folder import TargetResult
from tests.pipeline.noted import WRONG, NotedStages, forms, pressed

INT8 = EngineName("student", "int8", "", "onnxruntime")


@pytest.fixture
def stages(tmp_path: Path) -> NotedStages:
    return NotedStages(tmp_path)


def climbed(stages: NotedStages) -> bool:
    built = any(name.startswith("build student-mixed") for name in stages.ran)
    return built or bool({"rank_layers onnxruntime", "train"} & set(stages.ran))


def only_judged(stages: NotedStages, before: set[str]) -> bool:
    """Whether nothing new ran but predictions of an engine that was not judged `before`."""
    return all(name.startswith("predict ") and name.endswith(" on test") for name in set(stages.ran) - before)


@pytest.mark.parametrize("strict", [{}, {"gate__strict": True}])
def test_a_stricter_gate_only_judges(strict: dict[str, bool], stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pressed(stages, monkeypatch, gate__max_drop=20)
    assert before.candidate == INT8 and not climbed(stages)
    built = set(stages.ran)
    result = pressed(stages, monkeypatch, before, gate__max_drop=-5, **strict)
    assert only_judged(stages, built)
    assert result.engines == before.engines and not result.rungs
    assert result.climbed_for == before.climbed_for is not None
    again = pressed(stages, monkeypatch, result, gate__max_drop=-5, **strict)
    assert only_judged(stages, built) and again.climbed_for == before.climbed_for


def test_the_rungs_of_the_last_run_are_judged_again(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.failing["train"] = TypeError("no tracing")
    monkeypatch.setitem(WRONG, "student-mixed2", 30)
    before = pressed(stages, monkeypatch, gate__max_drop=1)
    assert {rung.name.form: rung.verdict == "pass" for rung in before.rungs} == {"mixed1": False, "mixed2": False}
    assert forms(before.refused) == {"student-qat"} and before.candidate and before.candidate.form == "fp16"
    result = pressed(stages, monkeypatch, before, gate__max_drop=5)
    assert not climbed(stages)
    assert {rung.name.form: rung.verdict == "pass" for rung in result.rungs} == {"mixed1": False, "mixed2": True}
    assert result.candidate and result.candidate.form == "mixed2" and result.bundle  # packed from its file with Q/DQ
    assert (result.engines, result.held_out, result.refused) == (before.engines, before.held_out, before.refused)


@pytest.mark.parametrize(
    "reason", ["the same gate", "the user wants it", "other engines", "no run before", "an earlier version"]
)
def test_the_ladder_is_climbed_if_more_than_the_gate_has_changed(
    reason: str, stages: NotedStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 if reason == "the same gate" else 20
    before: TargetResult | None = pressed(stages, monkeypatch, gate__max_drop=limit)
    assert before
    changes: dict[str, Any] = {}
    if reason == "the user wants it":
        changes["ladder__again"] = True
    elif reason == "other engines":
        (tmp_path / "other").mkdir()
        stages.root = tmp_path / "other"
    elif reason == "no run before":
        before = None
    elif reason == "an earlier version":
        before = replace(before, climbed_for=None)
    result = pressed(stages, monkeypatch, before, gate__max_drop=1, **changes)
    assert climbed(stages)
    assert [rung.name.form for rung in result.rungs] == ["mixed1", "mixed2"]
    assert result.climbed_for and result.climbed_for.max_drop == 1
