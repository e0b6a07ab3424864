"""The system's ssh, with a master connection in a private folder; never a password.

The user's own configuration, keys, agent and jump hosts count.
"""

import contextlib
import json
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from measure.device.devices import Device

PATIENCE = 10  # seconds until a host has to reply
OPTIONS = ("BatchMode=yes", f"ConnectTimeout={PATIENCE}", "ServerAliveInterval=10", "ServerAliveCountMax=3")
LOST = 255  # ssh's own exit code: the connection, and not the command
# The interpreter writes the first module that comes, up to a NUL byte, and starts it.
START = (
    "import io, sys\n"
    'if sys.version_info < (3, 8): sys.exit("Python %d.%d is too old; 3.8 or newer is needed" % sys.version_info[:2])\n'
    "stream = io.FileIO(0, closefd=False)\n"
    "source = bytes().join(iter(lambda: stream.read(1) or sys.exit(3), bytes(1)))\n"
    'with open("over_ssh.py", "wb") as file: file.write(source)\n'
    'sys.path.insert(0, "")\n'
    "import over_ssh\n"
    "over_ssh.main(stream)\n"
)
# A trap waits until Python has ended, and Python ends when stdin does. TERM and HUP come when the device shuts down.
SHELL = "; ".join(
    [
        "umask 077",
        'folder=$(mktemp -d "${{TMPDIR:-/tmp}}/respress.XXXXXXXX") || exit 73',
        "trap 'rm -rf \"$folder\"' EXIT",
        'trap "exit 3" HUP INT TERM PIPE',
        'cd "$folder" || exit 73',
        "PYTHONDONTWRITEBYTECODE=1 {python} -u -c {start}",
    ]
)


class DeviceError(Exception):
    """The device cannot be had, or a job cannot be done there; one line."""


class DeviceLost(DeviceError):
    """The connection was lost: the same may succeed on the next one."""


class Ssh:
    """A connection to `device`. Raises DeviceError if there is none."""

    def __init__(self, device: Device) -> None:
        if shutil.which("ssh") is None:
            raise DeviceError(f"{device.name} cannot be reached: there is no ssh here; install the client of OpenSSH")
        self.device = device
        self.folder = tempfile.TemporaryDirectory(prefix="respress-")
        self.socket = Path(self.folder.name) / "ssh"
        options = [part for option in OPTIONS for part in ("-o", option)]
        user = [str(Path(option).expanduser()) if option.startswith("~") else option for option in device.options]
        self.command = ["ssh", *user, *options, "-o", f"ControlPath={self.socket}"]
        self.log = (Path(self.folder.name) / "log").open("w+")
        # `cat` ends with this process, also when this is killed, and the master connection with it.
        self.master = subprocess.Popen(
            [*self.command, "-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-T", device.host, "cat"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.log,
        )  # fmt: skip
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Until the master connection stands."""
        until = time.monotonic() + 3 * PATIENCE
        while not self.socket.exists():
            if self.master.poll() is not None or time.monotonic() > until:
                self.log.seek(0)
                said = last_line(self.log.read()) or f"no connection within {3 * PATIENCE} s"
                raise DeviceLost(f"{self.device.name} cannot be reached: {said}")
            time.sleep(0.02)

    def python(self, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """Python on the device, in a folder of its own that is removed when it ends; it waits for its first module on stdin.

        What it prints besides messages goes to `errors`.
        """
        line = SHELL.format(python=from_home(self.device.python), start=shlex.quote(START))
        command = [*self.command, "-o", "ControlMaster=no", "-T", self.device.host, f"exec sh -c {shlex.quote(line)}"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)

    def close(self) -> None:
        self.master.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.master.wait(PATIENCE)
        assert self.master.stdin is not None
        self.master.stdin.close()
        self.log.close()
        self.folder.cleanup()


def from_home(python: str) -> str:
    """For a shell on the device in another folder: a relative path starts in the user's home there, as ssh itself does."""
    if "/" not in python or python.startswith("/"):
        return shlex.quote(python)
    return f'"$HOME"/{shlex.quote(python.removeprefix("~/"))}'


def last_line(text: str) -> str:
    """The last line of `text`: ssh's reason comes after its warnings."""
    return next(reversed([line.strip() for line in text.splitlines() if line.strip()]), "")


def messages(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The messages among `lines`; what a user's shell prints when it starts is left out, and so is the half of a message."""
    for line in lines:
        if line.startswith(b"respress {") and line.endswith(b"}\n"):
            yield json.loads(line.removeprefix(b"respress "))
