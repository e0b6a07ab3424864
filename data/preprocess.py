"""An image file -> the network's input. The only implementation: a copy of this file travels in every bundle.

Needs numpy and Pillow only. `preprocess.json` holds the parameters that every function here takes as `spec`:

    channels       1 (grey) or 3 (RGB)
    input_size     side of the square input, in pixels
    resize         "pad": centre the image, unscaled, on black; "shorter": scale the shorter side to `resize_size`, then crop
    resize_size    pixels, for "shorter"
    interpolation  "bilinear" or "bicubic", for "shorter"
    mean, std      one number per channel, on the 0 … 1 scale
"""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

Spec = dict[str, Any]


def load(source: Any, spec: Spec) -> Image.Image:
    """Open `source` (path or file) upright and in the network's colour mode.

    Raises OSError when it is not an image.
    """
    with Image.open(source) as image:
        return ImageOps.exif_transpose(image).convert(mode(spec))


def mode(spec: Spec) -> str:
    """Pillow's name for the network's colour mode."""
    return "L" if spec["channels"] == 1 else "RGB"


def fit(image: Image.Image, spec: Spec) -> Image.Image:
    """Scale, pad or crop `image` to [input_size, input_size]."""
    side = spec["input_size"]
    if spec["resize"] == "shorter":
        scale = spec["resize_size"] / min(image.size)
        size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
        image = image.resize(size, getattr(Image.Resampling, spec["interpolation"].upper()))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if (left, top) == (0, 0) and image.size == (side, side):
        return image
    # Pillow fills with black what lies outside the image, so the same call crops and pads.
    return image.crop((left, top, left + side, top + side))


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, C]."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def normalise(batch: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W], zero mean and unit deviation on the training images."""
    mean, std = np.asarray(spec["mean"], np.float32), np.asarray(spec["std"], np.float32)
    scaled = batch.astype(np.float32) * (1 / (255 * std)) - mean / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def preprocess(image: Image.Image, spec: Spec) -> np.ndarray:
    """One image, already in the network's colour mode -> float32 [1, C, H, W]."""
    return normalise(pixels(fit(image, spec))[None], spec)
