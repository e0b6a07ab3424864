"""Several processes use one store of stages, and are killed and stopped. `make bench-store` does it for 2 minutes."""

from pathlib import Path

from benchmarks.store import hammered


def test_eight_processes_corrupt_nothing(tmp_path: Path) -> None:
    found = hammered(tmp_path, processes=8, seconds=4)
    assert found.endswith("all are whole") and int(found.split()[0]) >= 10
