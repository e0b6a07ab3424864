"""FP32 ONNX + training images -> ranges.json: the range of every activation tensor that may be quantized.

Where other ranges are better for symmetric activations, they are written to symmetric.json. The method "best" also writes
equalization.safetensors and corrections.safetensors (for 7-bit weights: corrections-7-bits.safetensors) where scaling channels
and correcting biases help (choose.py, equalize.py, correct.py). Beside an equalization.safetensors, the ranges are those of the
equalized network.
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

from calibration.choose import Choice, Network, choose, counted
from calibration.equalize import EQUALIZATION, equalize, pairs_of, peaks_of, scales_for, with_equalized
from calibration.place import CORRECTIONS, SYMMETRIC
from calibration.ranges import Histogram, Method, select
from calibration.statistics import observed, statistics
from core import ranks
from core.config import Config
from core.graph import copied
from data.loader import Split, batches, order_of

CORRECTING = 32  # images that bias corrections are computed from: 128 are no better on average
PEEKING = 64  # images that the scales of equalization are computed from: any scales keep the function of the network
SHARED = 128  # images; fewer are not worth the work of several processes
MEMORY = 128 * 2**20  # bytes of observed activations per run


class Calibrate(Config):
    """`images` training images, a random choice; `percentile` is used by the method of that name.

    "best" is the method whose ranges change the logits least on held-out images: up to `held_out` images that did not
    calibrate. Only "best" corrects biases and, with `equalize`, scales channels between layers, both where the logits then
    change less.
    A batch has at most `batch_size` images, fewer where they are large. A histogram counts at least `samples` values of a
    tensor per image, and less than twice as many; minimum and maximum are those of all values.
    `reduce_range` says for each kind of weights that the targets have whether it is that of 7 bits: the recipe fills it in.
    """

    method: Literal[Method, "best"] = "best"
    percentile: float = 99.99
    images: int = Field(default=512, gt=0)
    held_out: int = Field(default=256, gt=0)
    batch_size: int = Field(default=16, gt=0)
    samples: int = Field(default=16384, gt=0)
    equalize: bool = True
    reduce_range: tuple[bool, ...] = Field(default=(False,), min_length=1)


def observe(config: Calibrate, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Write {tensor: [low, high]} of the float activations of `model` that may be quantized (`observed`) to `out`/ranges.json.

    Raises ValueError when an activation has values that are not finite.
    """
    proto = onnx.load(model / "model.onnx")
    tensors = observed(proto)
    batch_size = min(config.batch_size, max(1, MEMORY // (4 * sum(tensors.values()))))
    scales: dict[str, np.ndarray] = {}
    if config.method == "best" and config.equalize and pairs_of(proto):
        scales = scales_for(proto, peaks_of(proto, first_images(images, batch_size, min(config.images, PEEKING))))
    counting = ranks.together(counted_values) if config.images >= SHARED else counted_values
    renamed, seen, found = counting(config, model, images, batch_size, scales)
    plain = Network(proto, {name: found[name] for name in tensors})
    metrics = {"method": config.method, "images": seen, "tensors": len(tensors)}
    if config.method == "best":
        equalized = Network(copied(proto), {name: found[renamed.get(name, name)] for name in tensors}) if renamed else None
        if equalized:
            equalize(equalized.proto, scales)
        chosen, about = best(config, plain, equalized, images, batch_size, seen)
        metrics |= about | {"equalized": len(scales) if chosen.equalized else 0}
        chosen_ranges, symmetric = chosen.neutral.ranges, chosen.symmetric.ranges
        if chosen.equalized:
            save_file(scales, out / EQUALIZATION)
        for seven_bits, corrections in chosen.corrections.items():
            save_file(corrections, out / CORRECTIONS[seven_bits])
    else:
        method, percentile, histograms = config.method, config.percentile, plain.histograms.items()
        chosen_ranges, symmetric = (
            {name: select(h, method=method, percentile=percentile, symmetric=grid) for name, h in histograms}
            for grid in (False, True)
        )
    (out / "ranges.json").write_text(json.dumps(chosen_ranges, indent=0))
    if symmetric != chosen_ranges:
        (out / SYMMETRIC).write_text(json.dumps(symmetric, indent=0))
    return metrics


def counted_values(
    config: Calibrate, model: Path, images: Path, batch_size: int, scales: dict[str, np.ndarray]
) -> tuple[dict[str, str], int, dict[str, Histogram]]:
    """The names of the tensors that are equalized with `scales`, the number of images, and the histogram of every tensor."""
    proto = onnx.load(model / "model.onnx")
    tensors = observed(proto)
    extended, renamed = with_equalized(proto, scales)
    tensors |= {new: tensors[name] for name, new in renamed.items()}
    split = Split(images, "train")
    feed = (x.numpy() for x, _ in batches(split, batch_size, shuffle=True, limit=config.images, divided="images"))
    first, _ = ranks.span(len(order_of(split, batch_size, shuffle=True, limit=config.images)))
    parts = ranks.gather(statistics(extended, tensors, feed, config.samples, first))
    seen, found = parts[0]
    for more, others in parts[1:]:
        seen += more
        for name, histogram in found.items():
            histogram.merge(others[name])
    return renamed, seen, found


def best(
    config: Calibrate, plain: Network, equalized: Network | None, images: Path, batch_size: int, seen: int
) -> tuple[Choice, dict[str, Any]]:
    """The result of `choose`, and its metrics."""
    began = time.perf_counter()
    split, held_out = held_out_images(config, images, batch_size, seen)
    calibrating = first_images(images, batch_size, min(seen, CORRECTING))
    chosen = choose(plain, equalized, config.percentile, held_out, calibrating, config.reduce_range)
    return chosen, {
        "chosen": chosen.neutral.name,
        "methods": counted(chosen.neutral.methods),
        "corrected": bool(chosen.corrections),
        "divergence": chosen.neutral.divergences,
        "symmetric": {
            "chosen": chosen.symmetric.name,
            "methods": counted(chosen.symmetric.methods),
            "divergence": chosen.symmetric.divergences,
        },
        "held_out": {"split": split, "images": sum(map(len, held_out))},
        "choosing_seconds": round(time.perf_counter() - began, 3),
    }


def first_images(images: Path, batch_size: int, limit: int) -> list[np.ndarray]:
    """The first `limit` of the images that calibrate, as batches."""
    return [x.numpy() for x, _ in batches(Split(images, "train"), batch_size, shuffle=True, limit=limit)]


def held_out_images(config: Calibrate, images: Path, batch_size: int, seen: int) -> tuple[str, list[np.ndarray]]:
    """The name of a split, and batches of its images that did not calibrate: from `val`, or from `train` where `val` is empty.

    Where all training images are among the `seen` that calibrated, these are used again.
    """
    split = Split(images, "train")
    wanted = min(config.held_out, max(batch_size, MEMORY // (4 * math.prod(split.dataset["input_shape"]))))
    if split.dataset["splits"].get("val"):
        return "val", [x.numpy() for x, _ in batches(Split(images, "val"), batch_size, shuffle=True, limit=wanted)]
    # The order is that of calibration, so the images after the first ones did not calibrate.
    first = seen if seen < len(split) - batch_size else 0
    feed = batches(split, batch_size, shuffle=True, limit=first + wanted)
    return "train", [x.numpy() for x, _ in itertools.islice(feed, first // batch_size, None)]
