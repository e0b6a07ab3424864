"""The benchmark of a million files, with a hundred."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.index import SIZE, Measured, make_tree, measured, verdict


def test_the_tree_has_sparse_files_that_are_images(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 200, 5)
    files = sorted((tmp_path / "tree").rglob("*.png"))
    assert len(files) == 200 and sum("val" in file.parts for file in files) == 10
    assert {file.stat().st_size for file in files} == {SIZE}
    assert sum(512 * file.stat().st_blocks for file in files) < 200 * SIZE / 4
    pixels = {np.asarray(Image.open(file)).tobytes() for file in files if "val" in file.parts}
    assert len(pixels) == 10


def test_a_process_is_measured() -> None:
    found = measured("-c", "import time; time.sleep(0.3); x = bytearray(600_000_000)")
    assert 0.3 < found.seconds < 10 and 0 < found.computed < found.seconds and found.megabytes > 600


def test_a_process_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(ValueError, match=r"ended with 3: bad$"):
        measured("-c", "import sys; print('good'); print('bad'); sys.exit(3)")


@pytest.mark.parametrize(
    ("first", "cached", "megabytes", "met"),
    [(100, 2, 500, "met"), (181, 2, 500, "missed"), (100, 3.1, 500, "missed"), (100, 2, 1001, "missed")],
)
def test_the_verdict(first: float, cached: float, megabytes: float, met: str) -> None:
    found = {"first": Measured(first, 1, megabytes), "again": Measured(50, 1, 100), "command": Measured(cached, 1, 100)}
    assert verdict(found).endswith(f"{met}.")
