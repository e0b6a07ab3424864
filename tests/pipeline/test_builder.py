"""A network that does not fit into 16-bit floats costs the rows in 16-bit floats, not the run."""

from pathlib import Path
from typing import Any

import pytest

from core.cache import Artifact, Stages
from core.engine_name import EngineName
from export import targets
from export.bundle import Bundle
from export.half import Half
from measure.engines import Measure
from pipeline.builder import EngineBuilder
from pipeline.student import Student


@pytest.mark.parametrize(("target", "refused"), [("openvino", ["fp16"]), ("tensorrt_rtx", ["fp16", "int8"])])
def test_what_overflows_in_16_bits_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, refused: list[str]
) -> None:
    def overflow(*_: Any, **__: Any) -> Artifact:
        raise ValueError("fc.bias holds 1e+05, more than float16 can hold")

    monkeypatch.setattr(targets.get(target), "half", lambda profile: "fp16")
    monkeypatch.setattr(EngineBuilder, "to_half", overflow)
    baseline, onnx, placed = (Artifact(tmp_path / name, {}) for name in ("baseline", "student", "placed"))
    options = targets.get(target).Options()
    builder = EngineBuilder(Stages(tmp_path / "stages"), target, baseline, options, Half(), Measure(), Bundle())
    int8 = EngineName("student", "int8", "", target)
    models, reasons = builder.models(baseline, [Student("", onnx, onnx, onnx)], {int8: placed})
    assert {name.form: reason for name, reason in reasons.items()} == dict.fromkeys(
        refused, "fc.bias holds 1e+05, more than float16 can hold"
    )
    assert [name.form for name in models if name.network == "student"] == [
        form for form in ("fp32", "int8") if form not in refused
    ]
