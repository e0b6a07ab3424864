"""Test images -> small JPEGs as data URIs, so that the HTML stays one file."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data.loader import Split

SIDE = 96


def thumbnails(images: Path, wanted: Iterable[int]) -> dict[int, str]:
    """A data URI for each of the `wanted` images of the test split that can still be opened."""
    split = Split(images, "test")
    found = {i: thumbnail(split, i) for i in wanted}
    return {i: uri for i, uri in found.items() if uri is not None}


def thumbnail(split: Split, i: int) -> str | None:
    """At most `SIDE` pixels wide and high; None if the image is missing or broken."""
    try:
        image = split.image(i)
        image.thumbnail((SIDE, SIDE))
    except Exception:  # Pillow raises many kinds of errors for broken files; the report is complete without the picture
        return None
    return as_data_uri(image)


def as_data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, "JPEG", quality=85)  # a new image: `save` would copy a JPEG's comment
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
