"""What all targets share: the device in their options, the metrics of a build."""

from pathlib import Path
from typing import Any

import onnx
from pydantic import Field

from core.config import Config
from core.digest import file_digest
from core.placement import Placement
from core.profile import Profile, here


class EngineOptions(Config):
    """The section of a target in the recipe. `profile`: the device that its engines are made for, by default this machine."""

    profile: Profile = Field(default_factory=here)

    def placed(self, placement: Placement) -> Placement:
        """`placement`, which is that of the target, as these options want it."""
        return placement


def check_readable(proto: onnx.ModelProto, profile: Profile) -> None:
    """ValueError if the runtimes of the device are too old for the file."""
    if profile.opset is None or profile.ir is None:
        return
    opset = max(entry.version for entry in proto.opset_import if entry.domain == "")
    if opset > profile.opset or proto.ir_version > profile.ir:
        raise ValueError(
            f"the network is written at opset {opset} and IR version {proto.ir_version}; runtimes of {profile.name} read up to "
            f"{profile.opset} and {profile.ir}; pass --set export.opset=18"
        )


def described(file: Path, *, precision: str, int8_share: float | None) -> dict[str, Any]:
    """The metrics of a build; `int8_share` is None where it is unknown."""
    return {
        "file": file.name,
        "size_bytes": file.stat().st_size,
        "sha256": file_digest(file),
        "precision": precision,
        "int8_share": int8_share,
    }
