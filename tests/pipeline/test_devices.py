"""Engines for a device that is not here: chosen with the files computed here, never judged, timed or called measured."""

from pathlib import Path
from typing import Any

import pytest

from core import hardware
from core.engine_name import EngineName
from core.profile import profile_of
from export import targets
from pipeline.recipe import load_recipe
from tests.pipeline.noted import NotedStages, forms, pressed

FOR_ARM = "onnxruntime@arm64"


@pytest.fixture(autouse=True)
def workstation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "kind", lambda: "x86-vnni")


@pytest.fixture
def stages(tmp_path: Path) -> NotedStages:
    return NotedStages(tmp_path)


def test_it_is_chosen_and_packed_and_neither_timed_nor_judged(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    result = pressed(stages, monkeypatch, target=FOR_ARM)
    assert result.cannot_run == "it is made for arm64, and this machine is x86-vnni"
    assert result.bundle and not (result.latency or result.predictions or result.judged or result.alone)
    assert not [name for name in stages.ran if " on test" in name or name.startswith(("latency", "alone"))]
    # int8 and mixed1 fail here, and FP16 is not the precision that ships where none can be timed
    assert {rung.name.form: rung.verdict == "pass" for rung in result.rungs} == {"mixed1": False, "mixed2": True}
    assert result.candidate == EngineName("student", "mixed2", "", FOR_ARM)
    assert forms(result.held_out) == forms(result.engines)


def test_what_fails_on_the_images_that_choose_is_not_packed(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    result = pressed(stages, monkeypatch, target=FOR_ARM, ladder__rungs=[])
    assert result.candidate == EngineName("student", "int8", "", FOR_ARM) and result.bundle is None
    assert "bundle onnxruntime@arm64" not in stages.ran


def test_where_8_bits_are_computed_in_16_the_ladder_is_not_climbed(
    stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = pressed(stages, monkeypatch, target="openvino@arm64")
    assert result.candidate == EngineName("student", "fp16", "", "openvino@arm64") and result.bundle and not result.rungs
    assert "student-int8" in forms(result.engines)


def test_a_device_of_the_kind_of_this_machine_is_measured_here(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    result = pressed(stages, monkeypatch, target="onnxruntime@x86-vnni")
    assert result.cannot_run is None and result.latency and result.judged and result.predictions


def test_tensorrt_of_a_jetson_is_prepared(stages: NotedStages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.get("tensorrt"), "unavailable", lambda: None)  # also where a GPU of another kind could build
    result = pressed(stages, monkeypatch, target="tensorrt@orin")
    assert result.bundle and not result.engines
    assert result.unavailable == "its engines are built on the device; it is made for jetson-orin, and this machine is x86-vnni"


@pytest.mark.parametrize(
    ("target", "changes", "threads"),
    [
        ("onnxruntime", {}, 3),
        ("onnxruntime", {"measure__threads": 2}, 2),
        (FOR_ARM, {}, None),
        (FOR_ARM, {"measure__threads": 2}, 2),
        (FOR_ARM, {"measure__threads": 2, "targets__onnxruntime@arm64__profile__threads": 4}, 4),
    ],
)
def test_a_bundle_has_the_threads_that_were_timed_or_those_of_its_device(
    target: str, changes: dict[str, Any], threads: int | None, stages: NotedStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 3)
    pressed(stages, monkeypatch, target=target, **changes)
    config: Any = stages.configs[f"bundle {target}"]
    assert config.threads == threads and config.profile.name == ("" if target == "onnxruntime" else "arm64")
    assert config.requires == ("onnxruntime",)


def test_options_of_an_engine_count_on_all_its_devices() -> None:
    changes = {
        "targets.openvino.hint": "throughput",
        "targets.openvino.profile.threads": 2,
        "targets.openvino@x86-avx2.hint": "latency",
        "targets.openvino@x86-avx2.profile.opset": 17,
    }
    recipe = load_recipe("resnet18", None, changes, ["openvino", "openvino@arm64", "openvino@x86-avx2"])
    found: dict[str, Any] = dict(recipe.targets)
    hints = {name: options.hint for name, options in found.items() if name != targets.REFERENCE}
    assert hints == {"openvino": "throughput", "openvino@arm64": "throughput", "openvino@x86-avx2": "latency"}
    assert found["openvino"].profile.threads == 2 and found["openvino@arm64"].profile == profile_of("arm64")
    assert found["openvino@x86-avx2"].profile == profile_of("x86-avx2").model_copy(update={"opset": 17})


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (["onnxruntime"], (False,)),
        (["onnxruntime@x86-avx2"], (True,)),
        (["onnxruntime", "onnxruntime@x86-avx2", "openvino@arm64"], (False, True)),
        (["tensorrt@orin"], (False,)),
    ],
)
def test_biases_are_corrected_for_the_weights_of_all_targets(wanted: list[str], kinds: tuple[bool, ...]) -> None:
    assert load_recipe("resnet18", None, {}, wanted).calibrate.reduce_range == kinds


def test_pruned_channels_suit_the_widest_device() -> None:
    for changes, expected in (
        ({}, None),
        ({"targets.onnxruntime@arm64.profile.round_to": 32}, 32),
        ({"targets.onnxruntime@arm64.profile.round_to": 32, "prune.round_to": 8}, 8),
    ):
        assert load_recipe("resnet18", None, changes, ["onnxruntime", FOR_ARM]).prune.round_to == expected
