"""bundle with build.sh -> the same bundle with the engine that a device built from it, its timings and its measurements."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from core.config import Config
from core.console import console
from core.digest import file_digest
from measure.device.link import Member, Reach
from measure.device.predict import files_of

ENGINE = "model.engine"
TIMINGS = "timing.cache"  # of tactics: another build on the device is quicker with it


class BuildThere(Config):
    """`precision` of the network in the bundle."""

    precision: Literal["int8", "fp32"] = "int8"


def build_on_device(config: BuildThere, out: Path, *, reach: Reach, bundle: Path) -> dict[str, Any]:
    """Run build.sh of `bundle` on a device, and copy the bundle to `out` with the files that it made or changed there.

    `reach` does a job there (measure/device/link.py). Raises DeviceError if no engine was built.
    """
    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
    keep_timings(out / "build.json")

    def members() -> Iterator[Member]:
        yield from files_of({"bundle": out})

    received: dict[str, list[bytes]] = {}
    for message in reach({"do": "build", "folder": "engines/0"}, members):
        if "again" in message:
            received = {}
        elif "line" in message:
            console.print(message["line"], style="dim", markup=False)
        elif "file" in message:
            received.setdefault(message["file"], []).append(base64.b64decode(message["piece"]))
    for name, pieces in received.items():
        (out / Path(name).name).write_bytes(b"".join(pieces))
    return {
        "file": ENGINE,
        "size_bytes": (out / ENGINE).stat().st_size,
        "sha256": file_digest(out / ENGINE),
        "precision": config.precision,
        "int8_share": None,
        **said_by(out / "device.json"),
    }


def keep_timings(plan: Path) -> None:
    """Let the build write its timings of tactics, so that they come home with the engine."""
    content = json.loads(plan.read_text())
    if content["options"].get("timing_cache") is None:
        content["options"]["timing_cache"] = TIMINGS
        content["trtexec"] += f" --timingCacheFile={TIMINGS}"
        plan.write_text(json.dumps(content, indent=1))


def said_by(file: Path) -> dict[str, Any]:
    """What build_engine.py found on the device: the share of INT8 where it is known, and all of it as `device`."""
    found: dict[str, Any] = json.loads(file.read_text())
    known = {} if found.get("int8_share") is None else {"int8_share": found["int8_share"]}
    return {**known, "device": found}
