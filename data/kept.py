"""Results of a long computation in a file of lines of JSON, so that it continues after an interruption."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Kept:
    """Results in `file`, in their order. `found` are those of an interrupted computation, without an incomplete last line."""

    def __init__(self, file: Path) -> None:
        self.file = file
        whole = file.read_text(encoding="ascii").rpartition("\n")[0] if file.exists() else ""
        self.found: list[Any] = [json.loads(line) for line in whole.splitlines()]
        file.write_text(whole + "\n" * bool(whole), encoding="ascii")

    def add(self, results: Iterable[Any]) -> None:
        with self.file.open("a", encoding="ascii") as file:
            file.write("".join(json.dumps(result) + "\n" for result in results))

    def finish(self) -> None:
        """Remove the file."""
        self.file.unlink()
