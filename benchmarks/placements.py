"""INT8 files that are placed for one kind of CPU, on others: top-1 of each file on each CPU.

    python -m benchmarks.placements resnet20 --checkpoint resnet20.pth --data cifar10 --images 1000

The network is only quantized. This machine is one of the CPUs, with its own kind of file; QEMU emulates the others
(benchmarks/emulated.py). Emulation is slow: a file with int8 activations takes seconds per image on an emulated AVX2.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.emulated import DEVICES, Emulated
from benchmarks.table import with_section
from core import hardware
from core.console import console
from core.profile import PROFILES
from data.loader import Split
from pipeline import api
from reports.run_folder import read_record

PACKAGES = ("onnxruntime", "numpy")
CPUS = ("haswell", "cortex-a76")  # beside this machine
PREDICT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, ".")
from runner import open_engine
run, x = open_engine(Path(".")), np.load(sys.argv[1])
np.save(sys.argv[2], np.concatenate([run(x[i : i + 25]).argmax(1) for i in range(0, len(x), 25)]))
"""


def main(
    model: Annotated[str, typer.Argument(help="a network of the family")],
    checkpoint: Annotated[Path, typer.Option(help="its weights")],
    data: Annotated[str, typer.Option(help="data set of the checkpoint")] = "cifar10",
    images: Annotated[int, typer.Option(min=1, help="test images, spread over all of them")] = 1000,
    out: Annotated[Path, typer.Option(help="folder for the run")] = Path("runs/placements"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Place the files for this machine's CPU and for those that are emulated, and predict with each on each."""
    devices = {name: DEVICES[name] for name in CPUS}
    for device in devices.values():
        if device.missing:
            raise ValueError(device.missing)
    profiles = [hardware.kind(), *(device.profile for device in devices.values())]
    bundles = bundled(model, checkpoint, data, profiles, out)
    split = Split(read_record(out).images.path, "test")
    spread = np.linspace(0, len(split) - 1, min(images, len(split))).astype(int).tolist()
    x, labels = split.__getitems__(spread)[0].numpy(), split.labels[spread]
    right: dict[str, dict[str, np.ndarray]] = {}
    for made_for, bundle in bundles.items():
        right[made_for] = {}
        for cpu in (hardware.kind(), *devices):
            right[made_for][cpu] = predictions(bundle, x, devices.get(cpu)) == labels
            console.print(f"{made_for} on {cpu}: {100 * right[made_for][cpu].mean():.2f} %", markup=False)
    lines = [
        f"{conditions('benchmarks.placements', PACKAGES)}; {data}, {len(x):,} test images; emulated by QEMU: "
        f"{', '.join(f'{name} ({device.profile})' for name, device in devices.items())}. Top-1 %; in brackets the images that "
        "the file has lost / gained against its predictions on its own kind of CPU.",
        "",
        *markdown(right, dict(zip(profiles, (hardware.kind(), *devices), strict=True))),
    ]
    results.write_text(with_section(results.read_text() if results.exists() else "", f"{model}, placed for other CPUs", lines))
    console.print("\n".join([*lines[2:], f"written to {results}"]), markup=False)


def bundled(model: str, checkpoint: Path, data: str, profiles: list[str], out: Path) -> dict[str, Path]:
    """{profile: the bundle of the network, only quantized, for it}."""
    if unknown := [name for name in profiles if name not in PROFILES]:
        raise ValueError(f"this machine is {unknown[0]}; expected one of {', '.join(PROFILES)}")
    names = {profile: f"onnxruntime@{profile}" for profile in dict.fromkeys(profiles)}
    api.compress(model, checkpoint=checkpoint, data=data, targets=list(names.values()), finetune=False, out=out)
    return {profile: out / "bundle" / name for profile, name in names.items()}


def predictions(bundle: Path, x: np.ndarray, device: Emulated | None) -> np.ndarray:
    """The classes [N] that the bundle predicts for x [N, C, H, W] on the device; None: this machine."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "x.npy", Path(folder) / "predictions.npy"
        np.save(given, x)
        arguments = ["-c", PREDICT, str(given), str(found)]
        if device:
            done = device.run(bundle, *arguments)
        else:
            done = subprocess.run([sys.executable, *arguments], cwd=bundle, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{bundle.name} does not run: {done.stderr.strip().splitlines()[-1]}")
        return np.asarray(np.load(found))


def markdown(right: Mapping[str, Mapping[str, np.ndarray]], own: Mapping[str, str]) -> list[str]:
    """`right` is {profile of the file: {CPU: whether each prediction is right [N]}}, `own` the CPU of each profile."""
    cpus = list(next(iter(right.values())))
    lines = [f"| placed for | {' | '.join(f'on {cpu}' for cpu in cpus)} |", "|---" * (1 + len(cpus)) + "|"]
    for profile, found in right.items():
        before = found[own[profile]]
        changes = [(after.mean(), (before & ~after).sum(), (after & ~before).sum()) for after in found.values()]
        cells = [f"{100 * top1:.2f} ({lost} / {gained})" for top1, lost, gained in changes]
        lines.append(f"| {profile} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    started_with(main)
