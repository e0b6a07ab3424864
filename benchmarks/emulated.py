"""Devices that QEMU emulates, to run bundles on: real instructions of another CPU. Their times say nothing.

For ARM64, Python and its libraries are packages of this machine's own distribution for arm64, unpacked into a folder; the
wheels have the versions that are installed here. apt gets a configuration of its own and installs nothing. Emulated AVX2 uses
the Python of this machine. /proc/cpuinfo is that of a real device: ONNX Runtime and bundles read it.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from core.digest import PROJECT

CACHE = PROJECT / ".cache" / "emulated"
PACKAGES = ("python3", "libstdc++6")
WHEELS = ("numpy", "pillow", "onnxruntime")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
ARM = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
HASWELL = (
    "fpu tsc cx8 apic sep cmov clflush mmx fxsr sse sse2 syscall nx rdtscp lm pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe "
    "popcnt aes xsave avx f16c rdrand lahf_lm abm fsgsbase bmi1 avx2 smep bmi2 erms"
)


@dataclass(frozen=True)
class Emulated:
    """A device. `model` is QEMU's name of its CPU, `cpuinfo` what /proc/cpuinfo says of a core, `profile` its kind."""

    name: str
    profile: str
    qemu: str
    model: str
    cpuinfo: str

    @property
    def is_arm(self) -> bool:
        return self.qemu == "qemu-aarch64-static"

    @property
    def root(self) -> Path:
        """The folder in which QEMU looks for files first."""
        return CACHE / self.name

    @property
    def missing(self) -> str | None:
        """Why it cannot be emulated here; None if it can."""
        if shutil.which(self.qemu) is None:
            return f"{self.qemu} is not installed: apt-get install qemu-user-static"
        if not self.is_arm and platform.machine() != "x86_64":
            return f"{self.name} is emulated with the Python of this machine, which is not x86_64"
        if self.is_arm and not (CACHE / "wheels").exists():
            return "the packages for ARM64 are not here: python -m benchmarks.emulated"
        return None

    def run(self, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Python with the arguments in `folder`, with numpy, Pillow and ONNX Runtime alone."""
        self.root.joinpath("proc").mkdir(parents=True, exist_ok=True)
        self.root.joinpath("proc/cpuinfo").write_text("\n".join(f"processor\t: {i}\n{self.cpuinfo}\n" for i in range(2)))
        if self.is_arm:
            python, packages = next((self.root / "usr/bin").glob("python3.??")), str(CACHE / "wheels")
        else:
            python, packages = Path(sys.executable).resolve(), os.pathsep.join(filter(None, sys.path[1:]))
        command = [self.qemu, "-cpu", self.model, "-L", str(self.root), str(python), "-S", *arguments]
        environment = {**os.environ, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


DEVICES = {
    device.name: device
    for device in (
        Emulated(
            "cortex-a76", "arm64-dotprod", "qemu-aarch64-static", "cortex-a76",
            f"Features\t: {ARM} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n",
        ),
        Emulated(
            "cortex-a72", "arm64", "qemu-aarch64-static", "cortex-a72",
            f"Features\t: {ARM}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
            "CPU revision\t: 3\n",
        ),
        Emulated(  # without the features of the model that QEMU does not know
            "haswell", "x86-avx2", "qemu-x86_64-static", "Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-rtm,-invpcid",
            f"vendor_id\t: GenuineIntel\nmodel name\t: Intel Core Processor (Haswell)\nflags\t\t: {HASWELL}\n",
        ),
    )
}  # fmt: skip


def fetch() -> None:
    """Fetch what the ARM devices need into `CACHE`. Raises ValueError with the reason if something cannot be had."""
    state, archives = CACHE / "apt/state", CACHE / "apt/archives"
    for folder in (state / "lists/partial", archives / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    settings = {"Dir::State": state, "Dir::State::status": state / "status", "Dir::Cache::archives": archives,
                "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "", "APT::Architecture": "arm64",
                "APT::Architectures": "arm64", "Acquire::Languages": "none", "Debug::NoLocking": "1"}  # fmt: skip
    apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    subprocess.run([*apt, "update"], capture_output=True)  # a source without arm64 is an error of it, and does not matter
    needs("packages for arm64", [*apt, "install", "-y", "--download-only", "--no-install-recommends", *PACKAGES])
    for device in DEVICES.values():
        if device.is_arm:
            shutil.rmtree(device.root, ignore_errors=True)
            for package in sorted(archives.glob("*.deb")):
                needs(package.name, ["dpkg", "-x", str(package), str(device.root)])
    (python,) = (CACHE / "cortex-a76/usr/bin").glob("python3.??")
    wheels = CACHE / "downloads"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    pip += ["--python-version", python.name.removeprefix("python"), *(f"--platform={name}" for name in PLATFORMS)]
    needs("wheels for arm64", [*pip, *(f"{package}=={version(package)}" for package in WHEELS)])
    unpacked = CACHE / "wheels.partial"
    shutil.rmtree(unpacked, ignore_errors=True)
    for wheel in wheels.glob("*.whl"):
        shutil.unpack_archive(wheel, unpacked, "zip")
    shutil.rmtree(CACHE / "wheels", ignore_errors=True)
    unpacked.rename(CACHE / "wheels")


def needs(what: str, command: list[str]) -> None:
    """Run `command`. Raises ValueError with its last line if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError(f"{what}: {command[0]} is not here; expected Debian or Ubuntu") from error
    if done.returncode:
        raise ValueError(f"{what} cannot be fetched: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


if __name__ == "__main__":
    try:
        fetch()
    except ValueError as reason:
        sys.exit(f"error: {reason}")
