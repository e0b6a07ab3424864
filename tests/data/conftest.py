"""Small folders of images, as people's are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Tree = Callable[[dict[str, int | bytes]], Path]


def picture(seed: int, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def distinct(root: Path) -> Path:
    """Every image of `root` with content of its own."""
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        picture(1000 + i).save(path)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes my-images of {"train/cat": number of images, "train/readme.txt": content}; "" is the folder itself."""

    def made(content: dict[str, int | bytes]) -> Path:
        root = tmp_path / "my-images"
        root.mkdir()
        for name, what in content.items():
            if isinstance(what, bytes):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(what)
                continue
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(what):
                picture(i).save(root / name / f"{i:03}.png")
        return root

    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"
