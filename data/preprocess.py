"""An image file -> the network's input. The only implementation: a copy of this file travels in every bundle.

`preprocess.json` holds the parameters that every function here takes as `spec`:

    channels       1 (grey) or 3 (RGB)
    input_size     side of the square input, in pixels
    resize         "pad": centre the image, unscaled, on black; "shorter": scale the shorter side to `resize_size`, then crop;
                   "squash": scale both sides to `input_size`
    resize_size    pixels, for "shorter"
    interpolation  "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming", for "shorter" and "squash"
    mean, std      one number per channel, on the 0 … 1 scale
    exif           "apply" (the default): turn the image as its EXIF orientation says; "ignore": leave it, as torchvision does
    bit_depth      of grey images with more than 8 bits: 2 ** bit_depth grey values are scaled to 256; 16 where it is missing.
                   0: pixels from 0 to 1. Floating-point pixels are refused where it is missing
    channel_order  "bgr": blue first, as OpenCV reads images; "rgb" where it is missing. mean and std are in the same order

Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them. Needs numpy and Pillow 9.1 only; Python 3.8
is enough, as devices have it.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Dict, Iterator, Optional  # noqa: UP035  # Python 3.8 evaluates the alias below, and its dict takes no [...]

import numpy as np
from PIL import Image, ImageOps

Spec = Dict[str, Any]  # noqa: UP006
# Pillow knows more formats; some of those (EPS) start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
ORIENTATION = 0x0112  # the EXIF tag


def load(source: Any, spec: Spec, *, coarse: bool = False) -> Image.Image:
    """Open `source` (path or file) in the network's colour mode, turned as `spec` says; of several frames the first.

    With `coarse` a JPEG is decoded at an eighth of its size, which is enough to know that all of it can be decoded.
    Raises OSError when it is not an image of a known format and range, cannot be decoded whole, or is too large.
    """
    with opened(source, spec) as image:
        if coarse:
            image.draft("L", (1, 1))
        return in_colour_mode(turned(image, spec), spec)


@contextlib.contextmanager
def opened(source: Any, spec: Spec) -> Iterator[Image.Image]:
    """The image file `source`, not yet decoded. What goes wrong, until the end of the `with` block, becomes an OSError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken EXIF and the like: the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=known_formats()) as image:
                check_scaled_size(image, spec)
                yield image
        except OSError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen types for broken files
            raise OSError(f"{type(error).__name__}: {error}") from error


def known_formats() -> list[str]:
    """Those of FORMATS that this Pillow has; AVIF is missing from older ones."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def check_scaled_size(image: Image.Image, spec: Spec) -> None:
    """OSError for a strip so narrow that scaling its shorter side makes more pixels than Pillow takes for an attack."""
    if spec["resize"] == "shorter" and Image.MAX_IMAGE_PIXELS is not None:
        width, height = scaled_size(image.width, image.height, spec["resize_size"])
        if width * height > Image.MAX_IMAGE_PIXELS:
            raise OSError(f"{image.width} x {image.height} pixels become {width} x {height} when scaled: too narrow")


def turned(image: Image.Image, spec: Spec) -> Image.Image:
    """`image` as its EXIF orientation says, unless that is to be ignored. Pillow itself always turns TIFF files."""
    return image if spec.get("exif") == "ignore" else ImageOps.exif_transpose(image)


def in_colour_mode(image: Image.Image, spec: Spec) -> Image.Image:
    """`image` as "L" or "RGB", alpha dropped; more than 8 bits are scaled to 8, where Pillow would clip them to white.

    Grey values of `bit_depth` bits keep their upper 8 bits. Values above the bit depth become white.
    """
    values = deep_values(image)
    if values is not None:
        depth = spec.get("bit_depth")
        if depth is None and image.mode == "F":
            raise OSError("floating-point pixels have no known range; save it with 8 or 16 bits per channel")
        scaled = np.floor(values * (256 / 2 ** (16 if depth is None else depth)))
        image = Image.fromarray(np.minimum(scaled, 255).astype(np.uint8))
    return image.convert(mode(spec))


def deep_values(image: Image.Image) -> Optional[np.ndarray]:  # noqa: UP045
    """The pixels of a grey image with more than 8 bits, float64 [H, W]; None for every other image.

    Raises OSError for values that are not within 0 … 65535.
    """
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return None
    values = np.asarray(image).astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 65535):  # NaN is not, either
        raise OSError(f"grey values of {values.min():g} … {values.max():g} do not fit 16 bits; save it with 8 or 16 bits")
    return values


def mode(spec: Spec) -> str:
    """Pillow's name for the network's colour mode."""
    return "L" if spec["channels"] == 1 else "RGB"


def fit(image: Image.Image, spec: Spec) -> Image.Image:
    """Scale, pad or crop `image` to [input_size, input_size]."""
    side = spec["input_size"]
    if spec["resize"] == "shorter":
        image = image.resize(scaled_size(image.width, image.height, spec["resize_size"]), interpolation(spec))
    elif spec["resize"] == "squash":
        image = image.resize((side, side), interpolation(spec))
    left, top = centred(image.width, side), centred(image.height, side)
    if (left, top) == (0, 0) and image.size == (side, side):
        return image
    # Pillow fills with black what lies outside the image, so the same call crops and pads.
    return image.crop((left, top, left + side, top + side))


def scaled_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    """(width, height) scaled so that the shorter side has `shorter` pixels; the longer one is rounded down."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def centred(length: int, side: int) -> int:
    """Where a window of `side` pixels begins that is centred on `length` pixels; negative where it is the longer one."""
    return round((length - side) / 2.0) if length >= side else -((side - length) // 2)


def interpolation(spec: Spec) -> Image.Resampling:
    """Pillow's filter of that name."""
    return Image.Resampling[spec["interpolation"].upper()]


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, C]."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def normalise(batch: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [N, H, W, C], red first -> float32 [N, C, H, W], zero mean and unit deviation on the training images."""
    mean, std = np.asarray(spec["mean"], np.float32), np.asarray(spec["std"], np.float32)
    if spec.get("channel_order") == "bgr":
        batch = batch[..., ::-1]
    scaled = batch.astype(np.float32) * (1 / (255 * std)) - mean / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def preprocess(image: Image.Image, spec: Spec) -> np.ndarray:
    """One image, already in the network's colour mode -> float32 [1, C, H, W]."""
    return normalise(pixels(fit(image, spec))[None], spec)
