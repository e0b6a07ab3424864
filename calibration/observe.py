"""FP32 ONNX + training images -> ranges.json: the range of every activation tensor that a quantizer may want.

By the method "best" also equalization.safetensors and corrections.safetensors, where scaling channels and correcting biases
help (choose.py, equalize.py, correct.py). With the former beside them, the ranges are those of the equalized network.
"""

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from pydantic import Field
from safetensors.numpy import save_file

from calibration.choose import Choice, Form, choose, counted
from calibration.equalize import EQUALIZATION, equalize, pairs_of, peaks_of, scales_for, with_twins
from calibration.place import CORRECTIONS
from calibration.ranges import Method, select
from calibration.statistics import observed, statistics
from core.config import Config
from core.graph import copied
from data.loader import Split, batches

CORRECTING = 32  # images that bias corrections are measured on: 128 are no better on the whole
PEEKING = 64  # images that the scales of equalization are taken from: any scales are right, these are to be good
MEMORY = 128 * 2**20  # bytes of observed activations per run


class Calibrate(Config):
    """`images` training images, a random choice; `percentile` is used by the method of that name.

    "best" is whichever method's ranges change the answers least about up to `held_out` images that did not calibrate. It alone
    corrects biases and, if `equalize`, scales channels between layers, both where the answers then change less.
    At most `batch_size` images at a time, fewer where they are large. A histogram counts `samples` values of a tensor per
    image or up to twice as many; minimum and maximum look at all.
    """

    method: Literal[Method, "best"] = "best"
    percentile: float = 99.99
    images: int = Field(default=512, gt=0)
    held_out: int = Field(default=256, gt=0)
    batch_size: int = Field(default=16, gt=0)
    samples: int = Field(default=16384, gt=0)
    equalize: bool = True


def observe(config: Calibrate, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Write {tensor: [low, high]} for the float activations of `model` that `READERS` read to `out/ranges.json`.

    Raises ValueError when one has values that are not finite.
    """
    proto = onnx.load(model / "model.onnx")
    tensors = observed(proto)
    batch_size = min(config.batch_size, max(1, MEMORY // (4 * sum(tensors.values()))))
    scales: dict[str, np.ndarray] = {}
    if config.method == "best" and config.equalize and pairs_of(proto):
        scales = scales_for(proto, peaks_of(proto, first_images(images, batch_size, min(config.images, PEEKING))))
    watched, twins = with_twins(proto, scales)
    feed = (x.numpy() for x, _ in batches(Split(images, "train"), batch_size, shuffle=True, limit=config.images))
    seen, found = statistics(watched, tensors | {twin: tensors[name] for name, twin in twins.items()}, feed, config.samples)
    plain = Form(proto, {name: found[name] for name in tensors})
    metrics = {"method": config.method, "images": seen, "tensors": len(tensors)}
    if config.method == "best":
        equalized = Form(copied(proto), {name: found[twins.get(name, name)] for name in tensors}) if twins else None
        if equalized:
            equalize(equalized.proto, scales)
        chosen, about = best(config, plain, equalized, images, batch_size, seen)
        metrics |= about | {"equalized": len(scales) if chosen.equalized else 0}
        ranges = chosen.ranges
        if chosen.equalized:
            save_file(scales, out / EQUALIZATION)
        if chosen.corrections:
            save_file(chosen.corrections, out / CORRECTIONS)
    else:
        ranges = {name: select(h, method=config.method, percentile=config.percentile) for name, h in plain.histograms.items()}
    (out / "ranges.json").write_text(json.dumps(ranges, indent=0))
    return metrics


def best(
    config: Calibrate, plain: Form, equalized: Form | None, images: Path, batch_size: int, seen: int
) -> tuple[Choice, dict[str, Any]]:
    """What `choose` chose, and what is worth telling of it."""
    began = time.perf_counter()
    split, held_out = held_out_images(config, images, batch_size, seen)
    calibrating = first_images(images, batch_size, min(seen, CORRECTING))
    chosen = choose(plain, equalized, config.percentile, held_out, calibrating)
    return chosen, {
        "chosen": chosen.name,
        "methods": counted(chosen.methods),
        "corrected": bool(chosen.corrections),
        "divergence": chosen.divergences,
        "held_out": {"split": split, "images": sum(map(len, held_out))},
        "choosing_seconds": round(time.perf_counter() - began, 3),
    }


def first_images(images: Path, batch_size: int, limit: int) -> list[np.ndarray]:
    """The first `limit` of the images that calibrate, in batches."""
    return [x.numpy() for x, _ in batches(Split(images, "train"), batch_size, shuffle=True, limit=limit)]


def held_out_images(config: Calibrate, images: Path, batch_size: int, seen: int) -> tuple[str, list[np.ndarray]]:
    """Which split they are from, and batches of images that did not calibrate: of `val`, else of `train`.

    Where every training image is one of the `seen` that did, those.
    """
    split = Split(images, "train")
    wanted = min(config.held_out, max(batch_size, MEMORY // (4 * math.prod(split.dataset["input_shape"]))))
    if split.dataset["splits"].get("val"):
        return "val", [x.numpy() for x, _ in batches(Split(images, "val"), batch_size, shuffle=True, limit=wanted)]
    # The same order, and what comes behind those that calibrated.
    first = seen if seen < len(split) - batch_size else 0
    feed = batches(split, batch_size, shuffle=True, limit=first + wanted)
    return "train", [x.numpy() for x, _ in itertools.islice(feed, first // batch_size, None)]
