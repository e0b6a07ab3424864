"""What this machine is: for choosing kernels, for cache keys and for the report."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

# Linux's names for what decides how fast and how exact integers are, best last.
ISA = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


@cache
def cpuinfo() -> dict[str, str]:
    """/proc/cpuinfo of the first core; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_arm() -> bool:
    return platform.machine().lower() in ("aarch64", "arm64")


def isa() -> list[str]:
    """The instruction sets of `ISA` that this CPU has."""
    info = cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [name for name in ISA if name in flags]


def has_vnni() -> bool:
    """Whether uint8 x int8 products accumulate without saturating (always so outside x86)."""
    return is_arm() or bool({"avx_vnni", "avx512_vnni", "amx_int8"} & set(isa()))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu() -> dict[str, Any]:
    name = cpuinfo().get("model name") or platform.processor() or platform.machine()
    return {"cpu": name, "cores": cores(), "isa": isa()}


@cache
def gpu() -> dict[str, str] | None:
    """Name, compute capability and newest CUDA version of the driver of the first GPU; None where no GPU answers.

    Asked of the driver, because torch may be a CPU build and Jetson has no nvidia-smi.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, driver, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return {
        "name": name.value.decode(),
        "compute_capability": f"{major.value}.{minor.value}",
        "driver": f"CUDA {driver.value // 1000}.{driver.value % 1000 // 10}",
    }
