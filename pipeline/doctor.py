"""What this machine has, which targets work on it, and whether the devices of devices.toml can be had."""

from pathlib import Path

from core import hardware
from core.profile import PROFILES, here, profile_of
from export import targets
from export.bundle import DEVICE
from measure.device.devices import FILE, device_of, entries_of
from measure.device.link import Link
from measure.device.ssh import DeviceError
from pipeline.devices import platform_of


def states() -> dict[str, str]:
    """{"CPU", "GPU", a target or "device pi5": its state in words}. Devices are tried, which takes seconds each."""
    cpu, gpu = hardware.cpu(), hardware.gpu()
    machine = {
        "CPU": f"{cpu['cpu']}, {cpu['cores']} cores, {' '.join(cpu['isa']) or 'no known SIMD extension'}",
        "GPU": ", ".join(gpu.values()) if gpu else "no NVIDIA GPU found",
    }
    able = {name: state_of(targets.get(name)) for name in targets.names()}
    return machine | able | {"profiles": profiles()} | tried()


def tried(file: Path = FILE) -> dict[str, str]:
    """{"device pi5": what it is and has, or why it cannot be had} for every device of `file`."""
    try:
        return {f"device {name}": state_of_device(name, file) for name in entries_of(file)}
    except ValueError as error:
        return {"devices": str(error)}


def state_of_device(name: str, file: Path) -> str:
    try:
        device = device_of(name, file)
        link = Link(device, DEVICE)
        try:
            found = link.probe()
        finally:
            link.close()
    except (DeviceError, ValueError) as error:
        return f"cannot be had: {error}"
    platform = platform_of(device, found, link.threads)
    runtimes = (
        ", ".join(f"{package} {version}" for package, version in found["versions"].items()) or "no package that is needed"
    )
    return f"works: {platform['cpu']}, {platform['cores']} cores, Python {platform['python']}, {runtimes}"


def profiles() -> str:
    """The profiles that targets can be made for."""
    able = {
        engine: [device for device in PROFILES if targets.suits(targets.get(engine), profile_of(device))]
        for engine in targets.names()
    }
    return "; ".join(f"{engine}@{'|'.join(names)}" for engine, names in able.items() if names)


def state_of(target: targets.Target) -> str:
    """What the target can do here, or why it cannot and what to install."""
    if reason := target.unavailable():
        later = "" if target.prepare is None else "; its bundle has build.sh, which builds on the device"
        return f"cannot build: {reason}{later}"
    placement = target.placement(here())
    precisions = ["FP32", (target.half(here()) or "").upper(), "INT8" if placement else ""]
    if placement and placement.reduce_range:
        precisions[-1] += " (7-bit weights: this CPU has no VNNI)"
    able = ", ".join(filter(None, precisions))
    hindrance = target.cannot_run()
    return f"builds {able}; cannot run: {hindrance}" if hindrance else f"works: {able}"
