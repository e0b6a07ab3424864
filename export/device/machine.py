"""What a device is, and what it does at this moment: for `respress measure`. It is not part of a bundle.

Nothing of respress is on a device: this imports none of it.
"""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from over_ssh import HOME, say, wait_for_all

KEPT = HOME / ".cache" / "respress"
PACKAGES = ("numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pillow")


def probe(job: dict, members: Iterator[tuple]) -> None:
    """Say what this device is and has."""
    wait_for_all(members)
    kept = sorted(path.stem for path in KEPT.glob("*.npz")) if job["keep"] else []
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    gpu = ""
    if shutil.which("nvidia-smi"):
        gpu = first_line(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]) or ""
    say(found={"cpuinfo": cpuinfo, "model": text("/proc/device-tree/model"), "machine": platform.machine(), "gpu": gpu,
               "python": platform.python_version(), "executable": sys.executable, "versions": versions(), "cores": cores(),
               "l4t": text("/etc/nv_tegra_release"), "kept": kept})  # fmt: skip


def versions() -> dict:
    """{package: version}, without importing any of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Physical cores that this process may use, by its affinity and by the CPU quota of its control group."""
    allowed = os.sched_getaffinity(0)
    kinds = {text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    quota, _, period = (text("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    limit = int(quota) // int(period) if quota.isdigit() and period.isdigit() else len(kinds)
    return max(1, min(len(kinds), limit))


def conditions(sudo: bool) -> dict:
    """What the device does at this moment; None for what it does not say."""
    ask = ["sudo", "-n"] if sudo else []
    temperatures = {}
    for zone in sorted(glob.glob("/sys/class/thermal/thermal_zone*")):
        if number(zone + "/temp") is not None:
            temperatures[text(zone + "/type") or zone] = number(zone + "/temp") / 1000  # type: ignore[operator]
    memory = dict(line.split(":", 1) for line in (text("/proc/meminfo") or "").splitlines())
    before = sample()
    time.sleep(1)
    after = sample()
    frequencies = sorted(glob.glob("/sys/devices/system/cpu/cpu*/cpufreq"))
    return {
        "kernel": platform.release(),
        "governor": text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_mhz": [megahertz(path + "/scaling_cur_freq") for path in frequencies],
        "highest_mhz": [megahertz(path + "/cpuinfo_max_freq") for path in frequencies],
        "celsius": temperatures,
        "throttled": first_line(["vcgencmd", "get_throttled"]),
        "nvpmodel": whole([*ask, "nvpmodel", "-q"]),
        "jetson_clocks": whole([*ask, "jetson_clocks", "--show"]),
        "free_memory_bytes": 1024 * int(memory["MemAvailable"].split()[0]) if "MemAvailable" in memory else None,
        "load": os.getloadavg()[0],
        "cpus": len(os.sched_getaffinity(0)),
        "before": before,
        "after": after,
    }


def text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip("\0\n ")
    except OSError:
        return None


def number(path: str) -> float | None:
    try:
        return float(text(path) or "")
    except ValueError:
        return None


def megahertz(path: str) -> float | None:
    """A clock of cpufreq, which is in kHz."""
    found = number(path)
    return None if found is None else found / 1000


def whole(command: list) -> str | None:
    """What `command` prints; None where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def first_line(command: list) -> str | None:
    return next(iter((whole(command) or "").splitlines()), None)


def sample() -> dict | None:
    """The counters of measure/watch.py `Sample`, of the cores that this process may use."""
    names = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
    lines = [line.split() for line in (text("/proc/stat") or "").splitlines()]
    ticks = [list(map(int, line[1:9])) for line in lines if line and line[0] in names]
    if not ticks:
        return None
    own = (text("/proc/self/stat") or "").rpartition(")")[2].split()
    clocks = [number(f"/sys/devices/system/cpu/{name}/cpufreq/scaling_cur_freq") for name in names]
    temperatures = [number(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    total, idle, stolen = (sum(sum(core[i] for i in which) for core in ticks) for which in (range(8), (3, 4), (7,)))
    return {"total": total, "busy": total - idle - stolen, "stolen": stolen, "own": int(own[11]) + int(own[12]),
            "clock": highest(clocks), "celsius": highest(temperatures)}  # fmt: skip


def highest(values: list) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) / 1000 if known else None


def status(key: str) -> int:
    """A size in /proc/self/status, bytes."""
    return next(1024 * int(line.split()[1]) for line in (text("/proc/self/status") or "").splitlines() if line.startswith(key))
