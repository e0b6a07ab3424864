"""The devices of the user: DEVICE and devices.toml -> a Device.

DEVICE is an entry of devices.toml in the current folder, an alias of ssh, or ssh://user@host:port.
"""

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from core.config import Config
from core.text import problem

FILE = Path("devices.toml")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SECRETS = ("password", "passphrase", "secret", "token", "key")


class Device(Config):
    """A device that ssh reaches.

    name      in the report, as in "student-int8/onnxruntime@pi5"
    host      an alias of ssh, user@host or ssh://user@host:port
    python    the command or the path of its Python, which needs numpy and the runtimes; relative to the user's home there
    targets   those to be measured there; none: all that the run has
    threads   of an engine; None: the physical cores that a process may use there
    sudo      nvpmodel and jetson_clocks run through `sudo -n`
    options   of ssh, such as ["-F", "ssh_config"] or ["-i", "~/.ssh/pi5"]
    """

    name: str
    host: str
    python: str = "python3"
    targets: tuple[str, ...] = ()
    threads: int | None = Field(default=None, gt=0)
    sudo: bool = False
    options: tuple[str, ...] = ()


def device_of(name: str, file: Path = FILE) -> Device:
    """The device of this name. Raises ValueError for what is no name of a device, and for a wrong entry of `file`."""
    entries = entries_of(file)
    if name in entries:
        return from_entry(name, entries[name], file)
    short = name
    if name.startswith("ssh://"):
        parts = urlsplit(name)
        short = "-".join(filter(None, [parts.hostname, str(parts.port or "")]))
    if not NAME.fullmatch(short):
        known = f"an entry of {file} ({', '.join(entries)}), " if entries else f"an entry of {file}, "
        raise ValueError(f"DEVICE {name!r}: expected {known}an alias of ssh, or ssh://user@host:port")
    return Device(name=short, host=name)


def entries_of(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); expected TOML with a section such as [pi5] per device") from error


def from_entry(name: str, entry: Any, file: Path) -> Device:
    """The entry [`name`] of `file` as a Device; without `host`, the name is an alias of ssh."""
    if not NAME.fullmatch(name) or not isinstance(entry, dict):
        raise ValueError(f"{file}: {name!r} is not the section of a device; expected [pi5] with host, python, targets, threads")
    if secret := next((key for key in entry if any(word in key.lower() for word in SECRETS)), None):
        raise ValueError(f"{file}, [{name}]: {secret!r} may be a secret; remove it, and let ssh use a key or an agent")
    try:
        device = Device(**{"host": name, **entry, "name": name})
    except ValidationError as error:
        raise ValueError(f"{file}, [{name}]: {problem(error, Device)}") from error
    if device.host.startswith("-"):
        raise ValueError(f"{file}, [{name}]: host = {device.host!r} is an option and not a host; put options into `options`")
    return device
