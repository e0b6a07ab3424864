"""What this machine is: for choosing kernels, for cache keys and for the report."""

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

from core import cpu as processor
from core.cpu import cores_of, flags_of
from core.quota import quota

# Linux's names of the instruction sets that decide how fast and how exact integer kernels are, best last.
ISA = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")

# ARM boards have their name in the device tree; servers have no device tree.
BOARDS = (Path("/proc/device-tree/model"), Path("/sys/firmware/devicetree/base/model"))
# On ARM, "model name" is missing or says only "ARMv8 Processor rev 1"; "CPU implementer" and "CPU part" tell the kind of core.
CORES = {
    "0x41": {
        "0xc07": "Cortex-A7", "0xc09": "Cortex-A9", "0xc0f": "Cortex-A15", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35",
        "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75",
        "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd0e": "Cortex-A76AE", "0xd40": "Neoverse-V1",
        "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
        "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2", "0xd4b": "Cortex-A78C", "0xd4d": "Cortex-A715", "0xd4e": "Cortex-X3",
        "0xd4f": "Neoverse-V2", "0xd80": "Cortex-A520", "0xd81": "Cortex-A720", "0xd82": "Cortex-X4", "0xd84": "Neoverse-V3",
        "0xd85": "Cortex-X925", "0xd87": "Cortex-A725", "0xd8e": "Neoverse-N3",
    },
    "0x48": {"0xd01": "Kunpeng-920"},
    "0x4e": {"0x003": "Denver 2", "0x004": "Carmel"},
    "0xc0": {"0xac3": "Ampere-1", "0xac4": "Ampere-1a"},
}  # fmt: skip


SYSTEM = Path("/sys/devices/system/cpu")


@cache
def cpuinfo() -> str:
    """/proc/cpuinfo; empty where there is none."""
    return processor.cpuinfo()


def board() -> str | None:
    """The name of the board, such as "Raspberry Pi 4 Model B Rev 1.4"; None where the machine has no device tree."""
    path = next((path for path in BOARDS if path.exists()), None)
    return path.read_text().strip("\0\n ") if path else None


def cpu_name(text: str, board: str | None) -> str:
    """Board and kinds of cores, or the model name that x86 has; `text` is /proc/cpuinfo."""
    cores = cores_of(text)
    kinds = dict.fromkeys(core_name(core) for core in cores if "CPU part" in core)
    name = " + ".join(kinds) or cores[0].get("model name") or platform.processor() or platform.machine()
    return f"{board} ({name})" if board else name


def core_name(core: dict[str, str]) -> str:
    implementer, part = core["CPU implementer"], core["CPU part"]
    return CORES.get(implementer, {}).get(part, f"ARM core {implementer}:{part}")


def isa() -> list[str]:
    """The instruction sets of `ISA` that this CPU has."""
    flags = flags_of(cpuinfo())
    return [name for name in ISA if name in flags]


def kind() -> str:
    """The kind of this CPU (core/cpu.py)."""
    return processor.kind_of(platform.machine(), flags_of(cpuinfo()))


def instruction_set() -> list[str]:
    """Architecture and `isa`: what the results of integer and floating-point kernels depend on."""
    return [platform.machine(), *isa()]


sharing = 1  # processes that use the cores at the same time (core/ranks.py)


def cores() -> int:
    """Physical cores that this process may use: two hyper-threads of a core share its arithmetic units.

    A CPU quota is rounded down: one thread too many makes all threads wait.
    """
    if hasattr(os, "sched_getaffinity"):
        present = len({siblings(number) for number in os.sched_getaffinity(0)})
    else:
        present = os.cpu_count() or 1
    return max(1, min(present, int(quota() or present)) // sharing)


def siblings(number: int) -> str:
    """The hyper-threads that share a core with the hyper-thread `number`; only itself where the kernel does not say."""
    try:
        return (SYSTEM / f"cpu{number}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)


def cpu() -> dict[str, Any]:
    return {"cpu": cpu_name(cpuinfo(), board()), "cores": cores(), "isa": isa()}


def driver() -> Any:
    """The library of NVIDIA's driver. Raises OSError where there is none."""
    if sys.platform == "win32":
        return ctypes.WinDLL("nvcuda.dll")
    return ctypes.CDLL("libcuda.so.1")


@cache
def gpu() -> dict[str, str] | None:
    """Name, compute capability and newest CUDA version of the driver of the first GPU; None where there is no GPU.

    Read from the driver, because torch may be a CPU build and Jetson has no nvidia-smi.
    """
    try:
        cuda = driver()
    except OSError:
        return None
    device, newest, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(newest))
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return {
        "name": name.value.decode(),
        "compute_capability": f"{major.value}.{minor.value}",
        "driver": f"CUDA {newest.value // 1000}.{newest.value % 1000 // 10}",
    }
