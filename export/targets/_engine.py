"""The metrics that every target returns for the file it built."""

from pathlib import Path
from typing import Any

from core.digest import file_digest


def described(file: Path, *, precision: str, int8_share: float | None) -> dict[str, Any]:
    """The metrics of a build; `int8_share` is None where it is unknown."""
    return {
        "file": file.name,
        "size_bytes": file.stat().st_size,
        "sha256": file_digest(file),
        "precision": precision,
        "int8_share": int8_share,
    }
