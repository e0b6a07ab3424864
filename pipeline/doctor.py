"""What this machine has, and which targets work on it."""

from core import hardware
from core.profile import PROFILES, here, profile_of
from export import targets


def states() -> dict[str, str]:
    """{"CPU", "GPU" or a target: its state in words}."""
    cpu, gpu = hardware.cpu(), hardware.gpu()
    machine = {
        "CPU": f"{cpu['cpu']}, {cpu['cores']} cores, {' '.join(cpu['isa']) or 'no known SIMD extension'}",
        "GPU": ", ".join(gpu.values()) if gpu else "no NVIDIA GPU found",
    }
    return machine | {name: state_of(targets.get(name)) for name in targets.names()} | {"devices": devices()}


def devices() -> str:
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
