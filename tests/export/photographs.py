"""Image files as cameras, scanners and editors leave them, with content that has the statistics of photographs."""

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SIZES = [(301, 199), (97, 250), (128, 128), (64, 63), (211, 50)]


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """RGB of `size` (width, height): noise whose amplitude falls with the frequency, as that of photographs does."""
    width, height = size
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width))) / np.maximum(frequency, 1 / max(size))
    waves = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    waves = waves + waves.mean(2, keepdims=True)  # channels go together
    low, high = np.quantile(waves, (0.01, 0.99))
    return Image.fromarray((np.clip((waves - low) / (high - low), 0, 1) * 255).astype(np.uint8))


def write(folder: Path) -> list[Path]:
    """One file of every kind in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []

    def new(suffix: str) -> tuple[Path, Image.Image]:
        k = len(files)
        files.append(folder / f"{k:02}.{suffix}")
        return files[-1], photograph(k, SIZES[k % len(SIZES)])

    for quality in (30, 75, 95):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            path, image = new("jpg")
            image.save(path, quality=quality, subsampling=subsampling, progressive=quality == 75)
    for mode in ("L", "CMYK"):
        path, image = new("jpg")
        image.convert(mode).save(path)
    for orientation in range(2, 9):
        path, image = new("jpg")
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1"):
        path, image = new("png")
        image.convert(mode).save(path)
    path, image = new("png")
    image.convert("P").save(path, transparency=bytes(range(256)))
    path, image = new("png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)  # 16 bits
    return files


def with_place(path: Path, place: bytes) -> None:
    """A JPEG at `path` with a comment, and with EXIF that says where (GPS) and with which camera it was taken, rotated; and a
    PNG beside it with the same data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A camera"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 0.0)
    gps[0x001B] = place  # GPSProcessingMethod: any bytes
    image = photograph(99, SIZES[0])
    image.save(path, exif=exif, comment=place)
    text = PngImagePlugin.PngInfo()
    text.add_text("Location", place.decode())
    image.save(path.with_suffix(".png"), exif=exif, pnginfo=text)
