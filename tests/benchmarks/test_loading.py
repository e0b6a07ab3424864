"""The loader beside Pillow, on a few small JPEGs."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.loading import in_turns, main, photographs


def test_photographs_are_jpegs_of_two_classes_that_differ(tmp_path: Path) -> None:
    files = photographs(tmp_path, 4, 16)
    assert [file.parent.name for file in files] == ["class 0", "class 1"] * 2
    images = [Image.open(file) for file in files]
    assert {(image.format, image.size) for image in images} == {("JPEG", (16, 16))}
    assert len({np.asarray(image).tobytes() for image in images}) == 4


def test_every_other_turn_is_reversed_and_the_first_is_not_counted() -> None:
    order: list[str] = []

    def way(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turns([lambda: way("a"), lambda: way("b")], 2)
    assert order == ["a", "b", "b", "a", "a", "b"] and found == [[4.0, 5.0], [3.0, 6.0]]


def test_the_result_is_a_section(tmp_path: Path) -> None:
    main(64, 48, 32, 8, 1, tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Loading JPEGs of 48x48" in text and "ours / decoding and cropping" in text and "Goal: at least 0.9" in text
