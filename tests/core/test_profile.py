"""Kinds of CPUs, the devices that engines are made for, and names of engines with a device."""

from pathlib import Path

import pytest

from core import cpu, hardware
from core.engine_name import EngineName
from core.profile import PROFILES, here, profile_of

CPUINFO = Path(__file__).parent / "cpuinfo"
HASWELL = "processor\t: 0\nflags\t\t: fpu sse4_2 fma avx2 bmi2\n"


@pytest.mark.parametrize(
    ("machine", "file", "kind"),
    [
        ("x86_64", "x86", "x86-vnni"),
        ("AMD64", "x86", "x86-vnni"),
        ("x86_64", HASWELL, "x86-avx2"),
        ("aarch64", "pi4", "arm64"),
        ("aarch64", "pi5", "arm64-dotprod"),
        ("aarch64", "orin", "arm64-dotprod"),
        ("aarch64", "rk3588", "arm64-dotprod"),
        ("arm64", "", "arm64"),  # macOS has no /proc
        ("riscv64", "", "riscv64"),
    ],
)
def test_the_kind_of_a_cpu(machine: str, file: str, kind: str) -> None:
    text = (CPUINFO / file).read_text() if file.isalnum() else file
    assert cpu.kind_of(machine, cpu.flags_of(text)) == kind


def test_every_profile_is_of_a_kind_that_a_machine_can_have() -> None:
    kinds = {"arm64", "arm64-dotprod", "x86-vnni", "x86-avx2"}
    assert {profile.cpu for profile in PROFILES.values()} == kinds == kinds & PROFILES.keys()


@pytest.mark.parametrize("kind", ["x86-vnni", "arm64"])
def test_this_machine_is_of_the_profile_of_its_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "kind", lambda: kind)
    assert here().cpu == kind and here().activation == PROFILES[kind].activation and here().is_here
    assert [name for name, profile in PROFILES.items() if profile.is_here] == [kind]
    assert profile_of(kind).hindrance is None
    assert profile_of("x86-avx2").hindrance == f"it is made for x86-avx2, and this machine is {kind}"


def test_a_jetson_is_here_only_with_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "kind", lambda: "arm64-dotprod")
    for capability, found in (("8.7", True), ("9.0", False)):
        monkeypatch.setattr(hardware, "gpu", lambda capability=capability: {"compute_capability": capability})
        assert profile_of("orin").is_here == found
    assert profile_of("orin") == profile_of("jetson-orin")


def test_an_architecture_without_a_profile_gets_7_bit_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "kind", lambda: "riscv64")
    assert here().reduce_range and here().is_here


def test_an_unknown_device_lists_the_profiles() -> None:
    with pytest.raises(ValueError, match=r"unknown device 'pi9'.*arm64, arm64-dotprod, x86-avx2, x86-vnni, jetson-orin, orin"):
        profile_of("pi9")


@pytest.mark.parametrize(
    ("text", "target", "engine", "device"),
    [
        ("student-int8/onnxruntime", "onnxruntime", "onnxruntime", None),
        ("student-int8/onnxruntime@arm64", "onnxruntime@arm64", "onnxruntime", "arm64"),
        ("student-int8[0.5]/openvino@x86-avx2", "openvino@x86-avx2", "openvino", "x86-avx2"),
        ("student-int8[latency=4ms@onnxruntime@pi5]/onnxruntime@pi5", "onnxruntime@pi5", "onnxruntime", "pi5"),
        ("baseline-fp32/onnxruntime@ssh://me@gateway:2222", "onnxruntime@ssh://me@gateway:2222", "onnxruntime",
         "ssh://me@gateway:2222"),
    ],
)  # fmt: skip
def test_the_name_of_an_engine_has_its_device(text: str, target: str, engine: str, device: str | None) -> None:
    name = EngineName.parse(text)
    assert (str(name), name.target, name.engine, name.device) == (text, target, engine, device)


@pytest.mark.parametrize(
    ("siblings", "allowed", "expected"),
    [
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 1, 4, 5}, 2),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, {0, 1, 2, 3}, 2),
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 4}, 1),  # by taskset
        ({}, {0, 1, 2}, 3),  # the kernel does not say
    ],
)
def test_hyper_threads_of_a_core_count_once(
    siblings: dict[int, str], allowed: set[int], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, text in siblings.items():
        (tmp_path / f"cpu{number}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}/topology/thread_siblings_list").write_text(f"{text}\n")
    monkeypatch.setattr(hardware, "SYSTEM", tmp_path)
    monkeypatch.setattr(hardware, "quota", lambda: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: allowed)
    assert hardware.cores() == expected
