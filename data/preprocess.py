"""An image file -> the network's input. This is the only implementation: every bundle has a copy of this file.

`preprocess.json` holds the parameters that every function here takes as `spec`:

    channels       1 (grey) or 3 (RGB)
    input_size     side of the square input, in pixels
    resize         "pad": centre the image, unscaled, on black; "shorter": scale the shorter side to `resize_size`, then crop;
                   "squash": scale both sides to `input_size`
    resize_size    pixels, for "shorter"
    interpolation  "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming", for "shorter" and "squash"
    mean, std      one number per channel, on the 0 … 1 scale
    exif           "apply" (the default): rotate the image by its EXIF orientation; "ignore": do not, as torchvision
    bit_depth      of grey images with more than 8 bits: 2 ** bit_depth grey values are scaled to 256 (default 16).
                   0: pixels from 0 to 1. Without it, floating-point pixels are refused
    channel_order  "bgr": blue first, as OpenCV reads images; default "rgb". mean and std are in the same order

Sizes and offsets are rounded as by torchvision's Resize and CenterCrop. Needs only numpy, Pillow 9.1 and Python 3.8, because
devices have old versions.
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
    """Open `source` (path or file) in the network's colour mode, rotated as `spec` says; of several frames the first.

    With `coarse` a JPEG is decoded at an eighth of its size, which is enough to check that it can be decoded completely.
    Raises OSError if it is not an image of a known format and range, cannot be decoded completely, or is too large.
    """
    with opened(source, spec) as image:
        if coarse:
            image.draft("L", (1, 1))
        return in_colour_mode(turned(image, spec), spec)


@contextlib.contextmanager
def opened(source: Any, spec: Spec) -> Iterator[Image.Image]:
    """The image file `source`, not yet decoded. Any error until the end of the `with` block becomes an OSError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for example about broken EXIF; only the pixels matter
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
    """OSError for an image so narrow that scaling its shorter side gives more pixels than Pillow's limit against attacks."""
    if spec["resize"] == "shorter" and Image.MAX_IMAGE_PIXELS is not None:
        width, height = scaled_size(image.width, image.height, spec["resize_size"])
        if width * height > Image.MAX_IMAGE_PIXELS:
            raise OSError(f"{image.width} x {image.height} pixels become {width} x {height} when scaled: too narrow")


def turned(image: Image.Image, spec: Spec) -> Image.Image:
    """`image` rotated by its EXIF orientation, unless `spec` ignores it. Pillow itself always rotates TIFF files."""
    return image if spec.get("exif") == "ignore" else ImageOps.exif_transpose(image)


def in_colour_mode(image: Image.Image, spec: Spec) -> Image.Image:
    """`image` as "L" or "RGB" without alpha. More than 8 bits are scaled to 8; Pillow would clip large values to white.

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
    # Pillow fills the area outside the image with black, so the same call crops and pads.
    return image.crop((left, top, left + side, top + side))


def scaled_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    """(width, height) scaled so that the shorter side has `shorter` pixels; the longer one is rounded down."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def centred(length: int, side: int) -> int:
    """The first pixel of a window of `side` pixels in the centre of `length` pixels; negative if the window is longer."""
    return round((length - side) / 2.0) if length >= side else -((side - length) // 2)


def interpolation(spec: Spec) -> Image.Resampling:
    """Pillow's filter of that name."""
    filters: Any = getattr(Image, "Resampling", Image)  # Pillow before 9.1 has them in Image
    return getattr(filters, spec["interpolation"].upper())  # type: ignore[no-any-return]


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, C]."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def normalise(batch: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [N, H, W, C], red first -> float32 [N, C, H, W] with mean 0 and standard deviation 1 on the training images."""
    mean, std = np.asarray(spec["mean"], np.float32), np.asarray(spec["std"], np.float32)
    if spec.get("channel_order") == "bgr":
        batch = batch[..., ::-1]
    scaled = batch.astype(np.float32) * (1 / (255 * std)) - mean / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def preprocess(image: Image.Image, spec: Spec) -> np.ndarray:
    """One image, already in the network's colour mode -> float32 [1, C, H, W]."""
    return normalise(pixels(fit(image, spec))[None], spec)
