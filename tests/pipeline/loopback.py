"""A device for tests: sshd on the loopback address, with keys of its own, on a free port, with a home and a /tmp of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host
AuthorizedKeysFile {root}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
SetEnv HOME={root}/home TMPDIR={root}/tmp OMP_NUM_THREADS=1
"""
CLIENT = """
Host loopback
  HostName 127.0.0.1
  Port {port}
  IdentityFile {root}/user
  IdentitiesOnly yes
  UserKnownHostsFile {root}/known
  StrictHostKeyChecking yes
"""


@dataclass(frozen=True)
class Loopback:
    """`root` has the keys, the configuration of ssh (`config`), and the device's own folders home/ and tmp/; `server` is the
    number of sshd's process."""

    root: Path
    port: int
    python: str
    server: int

    @property
    def config(self) -> Path:
        return self.root / "config"

    def files(self) -> set[str]:
        """Everything that is on the device."""
        found = [entry for name in ("home", "tmp") for entry in os.walk(self.root / name)]
        return {os.path.join(folder, name) for folder, folders, files in found for name in (*folders, *files)}

    def entry(self, **changes: object) -> str:
        """The section of this device in devices.toml."""
        own = {"host": "loopback", "python": self.python, "targets": ["onnxruntime"], "threads": 1}
        values = {**own, "options": ["-F", str(self.config)], **changes}
        lines = [f"{key} = {value!r}" for key, value in values.items()]
        return "\n".join(["[board]", *lines, ""])

    def program(self, content: str) -> str:
        """The path of a program on the device, for `python` in its entry."""
        path = self.root / "program"
        path.write_text(f"#!/bin/sh\n{content}\n")
        path.chmod(0o755)
        return str(path)


@contextmanager
def loopback(root: Path, python: str) -> Iterator[Loopback]:
    """An sshd that runs until the block ends."""
    assert SSHD
    for name in ("home", "tmp"):
        (root / name).mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (root / "sshd").write_text(CONFIG.format(port=port, root=root))
    (root / "config").write_text(CLIENT.format(port=port, root=root))
    (root / "known").write_text(f"[127.0.0.1]:{port} {(root / 'host.pub').read_text()}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's service would make it
    with (root / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(root / "sshd")], stdin=subprocess.DEVNULL, stderr=log)
        try:
            wait_for(port, server)
            yield Loopback(root, port, python, server.pid)
        finally:
            server.terminate()
            server.wait()


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < until, "sshd does not start"
            time.sleep(0.02)
