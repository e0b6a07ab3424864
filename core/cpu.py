"""Which kind of CPU this is. A copy of this file goes to the device: it needs Python 3.8 and nothing else."""

from __future__ import annotations

import platform
from pathlib import Path

VNNI = {"avx_vnni", "avx512_vnni", "amx_int8"}  # their uint8 x int8 products do not saturate


def cpuinfo() -> str:
    """/proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    return path.read_text(errors="replace") if path.exists() else ""


def cores_of(text: str) -> list[dict[str, str]]:
    """The blocks of /proc/cpuinfo, one per core."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [{key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block)} for block in blocks]


def flags_of(text: str) -> set[str]:
    """The extensions of the first core that `text`, /proc/cpuinfo, names."""
    first = cores_of(text)[0]
    return set((first.get("flags") or first.get("Features") or "").split())


def kind_of(machine: str, flags: set[str]) -> str:
    """ "arm64-dotprod", "arm64", "x86-vnni", "x86-avx2" (all of x86 without VNNI), or the name of another architecture."""
    machine = machine.lower()
    if machine in ("aarch64", "arm64"):
        return "arm64-dotprod" if "asimddp" in flags else "arm64"
    if machine in ("x86_64", "amd64"):
        return "x86-vnni" if VNNI & flags else "x86-avx2"
    return machine


def kind() -> str:
    """The kind of this CPU."""
    return kind_of(platform.machine(), flags_of(cpuinfo()))
