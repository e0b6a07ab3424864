"""Devices that engines are made for: what placement, pruning and files have to keep to there.

Activations   onnxruntime's fast kernels take uint8 activations on x86 and int8 on ARM (SDOT; onnxruntime#9961). Without dot
              product (Cortex-A53, A72) 8 bits gain little there (onnxruntime#9902).
Weights       uint8 x int8 products saturate on x86 without VNNI, unless weights have 7 bits: a resnet50 scored 76.14 with VNNI
              and 72.80 without.
Opset and IR  of onnxruntime 1.19, the last for Python 3.8; TensorRT 10.3 (JetPack 6) reads opset 20.
"""

from typing import Literal

from core import hardware
from core.config import Config


class Profile(Config):
    """A kind of device.

    name          "" is this machine, whichever it is
    cpu           its kind of CPU, as core/cpu.py names it
    gpu           the compute capability of its GPU; None: it has none
    activation    integer type of activations that onnxruntime's kernels are fast with
    reduce_range  7-bit weights
    half          16-bit floats that engines for its CPU are written in; None: they do not pay
    round_to      the channels of pruned layers are multiples of it, in narrow layers of a part of it (compress/plan.py)
    opset, ir     the newest versions of ONNX files that its runtimes read; None: the runtime here shows that when it builds
    threads       that engines are run with; None: one per core of the device
    """

    name: str
    cpu: str
    gpu: str | None = None
    activation: Literal["uint8", "int8"] = "uint8"
    reduce_range: bool = False
    half: Literal["fp16", "bf16"] | None = None
    round_to: int = 16
    opset: int | None = 21
    ir: int | None = 10
    threads: int | None = None

    @property
    def is_arm(self) -> bool:
        return self.cpu.startswith("arm64")

    @property
    def is_here(self) -> bool:
        """Whether this machine is such a device, so that its engines run and are measured here."""
        if not self.name:
            return True
        same_gpu = self.gpu is None or self.gpu == (hardware.gpu() or {}).get("compute_capability")
        return self.cpu == hardware.kind() and same_gpu

    @property
    def hindrance(self) -> str | None:
        """Why this machine cannot run its engines as the device does; None if it can."""
        return None if self.is_here else f"it is made for {self.name}, and this machine is {hardware.kind()}"


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(name="arm64", cpu="arm64", activation="int8", half="fp16"),
        Profile(name="arm64-dotprod", cpu="arm64-dotprod", activation="int8", half="fp16"),
        Profile(name="x86-avx2", cpu="x86-avx2", reduce_range=True),
        Profile(name="x86-vnni", cpu="x86-vnni"),
        Profile(name="jetson-orin", cpu="arm64-dotprod", gpu="8.7", activation="int8", half="fp16", opset=20),
    )
}
SHORT = {"orin": "jetson-orin"}


def here() -> Profile:
    """This machine. An architecture that has no profile gets 7-bit weights, which are safe everywhere."""
    kind = hardware.kind()
    known = PROFILES.get(kind, Profile(name=kind, cpu=kind, reduce_range=True))
    return known.model_copy(update={"name": "", "opset": None, "ir": None})


def profile_of(device: str | None) -> Profile:
    """The profile of that name, None: this machine. Raises ValueError that lists the known ones."""
    if device is None:
        return here()
    if SHORT.get(device, device) not in PROFILES:
        raise ValueError(f"unknown device {device!r}; known profiles: {', '.join((*PROFILES, *SHORT))}")
    return PROFILES[SHORT.get(device, device)]
