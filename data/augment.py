"""One decoded training image -> a random crop and flip of it."""

import numpy as np
from PIL import Image

from core.config import Config
from data import preprocess


class Augment(Config):
    """Training-time augmentation.

    min_area   random resized crops of at least this share of an image that is scaled to the input; None: a shift instead
    shift      in pixels, of images that are not scaled, or not cropped so
    """

    flip: bool = True
    shift: int = 2
    min_area: float | None = 0.35


def augmented(image: Image.Image, spec: preprocess.Spec, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A random crop and flip of `image`: uint8 [input_size, input_size, C]."""
    side, min_area = spec["input_size"], min_area_of(spec, augment)
    if min_area is not None:
        image = random_resized_crop(image, spec, min_area, rng)
    else:
        image = image if spec["resize"] == "pad" else preprocess.fit(image, spec)
        x, y = rng.integers(-augment.shift, augment.shift + 1, 2)
        left, top = preprocess.centred(image.width, side) + int(x), preprocess.centred(image.height, side) + int(y)
        image = image.crop((left, top, left + side, top + side))
    pixels = preprocess.pixels(image)
    return pixels[:, ::-1] if augment.flip and rng.random() < 0.5 else pixels


def min_area_of(spec: preprocess.Spec, augment: Augment) -> float | None:
    """The `min_area` of random resized crops; None where there are none."""
    return None if spec["resize"] == "pad" else augment.min_area


def random_resized_crop(image: Image.Image, spec: preprocess.Spec, min_area: float, rng: np.random.Generator) -> Image.Image:
    """Inception-style crop: an area of `min_area` … 1 and a ratio of 3/4 … 4/3, scaled to the input size."""
    area = image.width * image.height * rng.uniform(min_area, 1.0)
    ratio = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    width = min(image.width, max(1, round((area * ratio) ** 0.5)))
    height = min(image.height, max(1, round((area / ratio) ** 0.5)))
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    side, box = spec["input_size"], (left, top, left + width, top + height)
    return image.resize((side, side), preprocess.interpolation(spec), box=box)
