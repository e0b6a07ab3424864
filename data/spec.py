"""The preprocessing settings of the user, the checkpoint and the data set, merged into one preprocessing spec."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from core.config import Config
from data.preprocess import Spec

Finite = Annotated[float, Field(allow_inf_nan=False)]
INPUT_SIZE, CROP_PCT = 224, 0.875  # the defaults
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Preprocessing(Config):
    """The settings of preprocessing. None: not set, the level with the next lower priority decides.

    input_size     side of the network's square input, in pixels
    resize         pixels of the shorter side before the centre crop; "pad": unscaled, centred on black; "squash": both
                   sides scaled to the input, which changes the aspect ratio
    crop_pct       instead of pixels: input_size / crop_pct, rounded down
    interpolation  Pillow's filter
    mean, std      on the 0 … 1 scale, for every channel or one for all
    channels       1: grey, 3: RGB
    exif           "apply": rotate images by their EXIF orientation; "ignore": do not, as torchvision and timm
    bit_depth      of grey images with more than 8 bits; 0 for floating-point pixels from 0 to 1
    channel_order  "bgr" for networks that were trained on images as OpenCV reads them; mean and std are in the same order
    """

    input_size: int | None = Field(default=None, ge=8, le=2048)
    resize: int | Literal["pad", "squash"] | None = None
    crop_pct: float | None = Field(default=None, gt=0, le=1)
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = None
    mean: tuple[Annotated[Finite, Field(ge=0, le=1)], ...] | None = None
    std: tuple[Annotated[Finite, Field(gt=0, le=1)], ...] | None = None
    channels: Literal[1, 3] | None = None
    exif: Literal["apply", "ignore"] | None = None
    bit_depth: Literal[0, 8, 10, 12, 14, 16] | None = None
    channel_order: Literal["rgb", "bgr"] | None = None

    @field_validator("resize", mode="before")
    @classmethod
    def known_resize(cls, value: Any) -> Any:
        pixels = isinstance(value, int) and not isinstance(value, bool) and 8 <= value <= 4096
        if pixels or value in (None, "pad", "squash"):
            return value
        raise ValueError("expected 8 … 4096 pixels for the shorter side, 'pad' or 'squash'")

    @model_validator(mode="after")
    def fits_together(self) -> "Preprocessing":
        check_agree(self.resize, self.crop_pct, self.input_size or INPUT_SIZE)
        if isinstance(self.resize, int) and self.resize < (self.input_size or 0):
            raise ValueError(
                f"resize {self.resize} is smaller than input_size {self.input_size}; expected at least as many pixels"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            expected = (1, self.channels or 3)
            if values is not None and len(values) not in expected:
                raise ValueError(f"{name} has {len(values)} numbers; expected one, or one for each of {expected[1]} channels")
        return self

    def said(self) -> dict[str, Any]:
        """The settings that are not None."""
        return {name: value for name in Preprocessing.model_fields if (value := getattr(self, name)) is not None}


def merged(levels: list[Preprocessing], in_channels: int | None = None) -> Spec:
    """The spec for preprocess.py. `levels` are in the order of priority, highest first; `in_channels` are the network's.

    Raises ValueError if the levels contradict the network or each other.
    """
    said: dict[str, Any] = {}
    for level in levels:
        more = level.said()
        pixels, side = isinstance(more.get("resize"), int), more.get("input_size", INPUT_SIZE)
        # A resize in pixels is only valid with its own input size. crop_pct and resize are two settings for the same thing.
        if {"crop_pct", "resize"} & set(said):
            more.pop("crop_pct", None)
            more.pop("resize", None)
        elif pixels and said.get("input_size", side) != side:
            more.pop("resize")
        said = more | said
    channels = levels[0].channels or in_channels or said.get("channels", 3)
    if in_channels is not None and channels != in_channels:
        raise ValueError(f"channels = {channels}, but the checkpoint takes {in_channels}: leave channels out")
    side = said.get("input_size", INPUT_SIZE)
    spec: Spec = {"channels": channels, "input_size": side}
    resize = said.get("resize")
    check_agree(resize, said.get("crop_pct"), side)
    if resize is None:
        resize = math.floor(side / said.get("crop_pct", CROP_PCT))
    if isinstance(resize, int):
        if resize < side:
            raise ValueError(f"resize {resize} is smaller than input_size {side}; expected at least as many pixels")
        spec |= {"resize": "shorter", "resize_size": resize}
    else:
        spec["resize"] = resize
    if resize != "pad":
        spec["interpolation"] = said.get("interpolation", "bilinear")
    spec["exif"] = said.get("exif", "apply")
    if "bit_depth" in said:
        spec["bit_depth"] = said["bit_depth"]
    if said.get("channel_order") == "bgr":
        if channels == 1:
            raise ValueError("channel_order bgr needs 3 channels, but the images are grey: leave channel_order out")
        spec["channel_order"] = "bgr"
    return spec | {name: per_channel(said.get(name, IMAGENET[name]), channels) for name in ("mean", "std")}


def check_agree(resize: int | str | None, crop_pct: float | None, side: int) -> None:
    """ValueError if both are given and mean different numbers of pixels (1 apart is allowed: crop_pct is often rounded)."""
    if resize is None or crop_pct is None:
        return
    pixels = side / crop_pct
    if not (abs(resize - pixels) < 1 if isinstance(resize, int) else crop_pct == 1):
        raise ValueError(
            f"resize {resize} and crop_pct {crop_pct} set the same thing and disagree: an input size of "
            f"{side} / {crop_pct} is a resize of {math.floor(pixels)}; pass only one of them"
        )


def per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    """`values` for `channels` channels: a single value is repeated, three values become their mean."""
    if len(values) == channels:
        return list(values)
    return list(values) * channels if len(values) == 1 else [round(sum(values) / len(values), 6)]
