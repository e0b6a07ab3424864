"""What /proc/cpuinfo and the device tree say about a machine, for files as these machines have them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core import hardware
from export import targets

CPUINFO = Path(__file__).parent / "cpuinfo"
MACHINES = {  # file: device-tree model, name, instruction sets
    "x86": (
        None,
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8"],
    ),
    "pi4": ("Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)", []),
    "pi5": ("Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76)", ["asimddp"]),
    "orin": ("NVIDIA Jetson Orin Nano Developer Kit", "NVIDIA Jetson Orin Nano Developer Kit (Cortex-A78AE)", ["asimddp"]),
    "graviton2": (None, "Neoverse-N1", ["asimddp"]),
    "rk3588": ("Radxa ROCK 5B", "Radxa ROCK 5B (Cortex-A55 + Cortex-A76)", ["asimddp"]),
}
Pretend = Callable[[str], None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pretend:
    """`pretend(name)`: this machine is the one of MACHINES."""

    def become(name: str) -> None:
        board, _, _ = MACHINES[name]
        (tmp_path / "model").write_text(f"{board}\0" if board else "")
        monkeypatch.setattr(hardware, "BOARDS", (tmp_path / "missing", tmp_path / ("model" if board else "missing, too")))
        monkeypatch.setattr(hardware, "cpuinfo", (CPUINFO / name).read_text)

    return become


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_has_a_name_of_its_own(pretend: Pretend, name: str) -> None:
    pretend(name)
    _, cpu, isa = MACHINES[name]
    assert (hardware.cpu()["cpu"], hardware.cpu()["isa"]) == (cpu, isa)


def test_unknown_arm_cores_are_distinguished_by_their_numbers() -> None:
    texts = [f"processor : 0\nCPU implementer : 0x99\nCPU part : {part}\n" for part in ("0x001", "0x002")]
    assert [hardware.cpu_name(text, None) for text in texts] == ["ARM core 0x99:0x001", "ARM core 0x99:0x002"]


def test_a_machine_without_cpuinfo_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpuinfo", str)
    monkeypatch.setattr(hardware, "board", lambda: None)
    assert hardware.cpu()["cpu"] and hardware.isa() == []


@pytest.mark.parametrize("target", targets.names())
def test_engines_of_different_boards_have_different_cache_keys(pretend: Pretend, target: str) -> None:
    platforms = []
    for name in MACHINES:
        pretend(name)
        platforms.append(targets.get(target).platform())
    assert all(platforms.count(platform) == 1 for platform in platforms)


def test_the_instruction_set_includes_the_architecture(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("pi5")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert hardware.instruction_set() == ["aarch64", "asimddp"]
