"""The table of files on CPUs, and devices that cannot be emulated."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import emulated
from benchmarks.emulated import DEVICES
from benchmarks.placements import main, markdown, predictions
from core.cpu import flags_of, kind_of
from core.profile import PROFILES

RUNNER = "def open_engine(folder):\n    return lambda x: x[:, :, 0, 0]\n"


def test_predictions_are_those_of_the_bundle_in_order(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text(RUNNER)
    labels = np.arange(60) % 7
    x = np.eye(7, dtype=np.float32)[labels][:, :, None, None]
    assert (predictions(tmp_path, x, None) == labels).all()


def test_a_bundle_that_does_not_run_says_why(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise OSError('no kernel')")
    with pytest.raises(ValueError, match="does not run: OSError: no kernel"):
        predictions(tmp_path, np.zeros((1, 1, 1, 1), np.float32), None)


def test_the_table_counts_what_a_file_loses_on_another_cpu() -> None:
    right = {
        "x86-vnni": {"x86-vnni": np.array([True, True, True, False]), "haswell": np.array([True, False, False, True])},
        "x86-avx2": {"x86-vnni": np.array([True, True, False, False]), "haswell": np.array([True, True, True, True])},
    }
    assert markdown(right, {"x86-vnni": "x86-vnni", "x86-avx2": "haswell"})[2:] == [
        "| x86-vnni | 75.00 (0 / 0) | 50.00 (2 / 1) |",
        "| x86-avx2 | 50.00 (2 / 0) | 100.00 (0 / 0) |",
    ]


def test_every_emulated_device_has_a_profile() -> None:
    assert {device.profile for device in DEVICES.values()} <= PROFILES.keys()


def test_what_cannot_be_emulated_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "CACHE", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert "python -m benchmarks.emulated" in str(DEVICES["cortex-a76"].missing)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert all("apt-get install qemu-user-static" in str(device.missing) for device in DEVICES.values())
    with pytest.raises(ValueError, match="qemu-user-static"):
        main("resnet20", Path("no.pth"))


def test_a_package_that_cannot_be_fetched_is_told_in_a_line() -> None:
    with pytest.raises(ValueError, match="packages cannot be fetched: E: no such mirror"):
        emulated.needs("packages", ["sh", "-c", "echo first >&2; echo E: no such mirror >&2; exit 100"])
    with pytest.raises(ValueError, match="no-such-apt is not here"):
        emulated.needs("packages", ["no-such-apt"])


def test_emulated_files_of_a_device_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "CACHE", tmp_path)
    ran = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: ran.append(command))
    DEVICES["haswell"].run(tmp_path, "verify.py")
    (command,) = ran
    assert command[:5] == ["qemu-x86_64-static", "-cpu", DEVICES["haswell"].model, "-L", str(tmp_path / "haswell")]
    text = (tmp_path / "haswell/proc/cpuinfo").read_text()
    assert kind_of("x86_64", flags_of(text)) == "x86-avx2"
