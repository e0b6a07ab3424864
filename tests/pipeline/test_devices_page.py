"""docs/devices.md: its entries of devices.toml are read, and its commands run on the loopback device as they stand."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from measure.device.devices import device_of, entries_of
from pipeline.__main__ import main
from reports.rows import collect
from tests.pipeline.loopback import Loopback
from tests.pipeline.test_readme import PROJECT, blocks, forwarded

PAGE = PROJECT / "docs/devices.md"
LINES = [line for block in blocks(PAGE) for line in block.splitlines()]
MEASURED = [line for line in dict.fromkeys(LINES) if line.startswith("make measure") and "orin" not in line]
OVER_SSH = [line for line in LINES if line.startswith("ssh ") and not any(word in line for word in ("pip ", "sudo "))]


def test_its_devices_are_read(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(PAGE, "toml") if block.startswith("[pi5]"))
    file = tmp_path / "devices.toml"
    file.write_text(block)
    devices = {name: device_of(name, file) for name in entries_of(file)}
    assert list(devices) == ["pi5", "gateway", "orin"]
    assert devices["pi5"].threads == 4 and devices["gateway"].host == "gateway" and devices["orin"].sudo


@pytest.mark.parametrize("command", MEASURED)
def test_it_measures(command: str, board: Loopback, pressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = forwarded(*shlex.split(command)[1:])
    words = words[words.index("pipeline") + 1 :]
    python = board.root / "home/respress/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(board.program(f'exec {sys.executable} "$@"'))
    Path("devices.toml").write_text(board.entry(python="respress/bin/python").replace("[board]", f"[{words[2]}]"))
    shutil.copytree(pressed, tmp_path / "runs/resnet18")
    monkeypatch.setattr(sys, "argv", ["respress", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert [row.status for row in collect(tmp_path / "runs/resnet18").rows if row.device == words[2]] == ["measured"] * 2
    shutil.rmtree(board.root / "home/.cache", ignore_errors=True)  # --device-keep
    shutil.rmtree(board.root / "home/respress")


@pytest.mark.parametrize("command", OVER_SSH)
def test_it_prepares(command: str, board: Loopback) -> None:
    _, _, there = shlex.split(command)
    # sshd starts in the home that the system knows, and not in that of the board.
    subprocess.run(["ssh", "-F", str(board.config), "loopback", f"cd && {there}"], check=True, capture_output=True)
    (made,) = (board.root / "home").iterdir()
    assert (made / "bin/python").exists(), made
    shutil.rmtree(made)
