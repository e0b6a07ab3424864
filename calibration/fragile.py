"""FP32 ONNX + ranges + training images -> fragile.json: the layers that 8 bits hurt most on one target, worst first."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from calibration.place import network_of
from calibration.sensitivity import sensitivity
from data.loader import Split, batches
from pipeline.config import Config
from pipeline.placement import Placement


class Fragile(Config):
    """`images` held-out images that are asked once for every layer, of the training images where none are held out."""

    images: int = Field(default=64, gt=0)


class Ranking(Fragile):
    """The same for one target: what is hurt depends on the weights' bits and on which inputs of an addition are rounded."""

    placement: Placement


def fragile(config: Ranking, out: Path, *, model: Path, ranges: Path, images: Path) -> dict[str, Any]:
    """Write [[node, KL divergence when only it is quantized, in nats per image], …] to `out`/fragile.json."""
    proto, limits = network_of(model, ranges)
    held_out = Split(images, "val")
    split = held_out if len(held_out) else Split(images, "train")
    feed = [x.numpy() for x, _ in batches(split, 16, shuffle=True, limit=config.images)]
    found = sensitivity(proto, limits, feed, config.placement)
    (out / "fragile.json").write_text(json.dumps(list(found.items()), indent=0))
    return {"nodes": len(found), "worst": dict(list(found.items())[:5])}
