"""The stages that trained a network -> their curves, and the norms of the gradients per layer and epoch."""

import base64
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from core.cache import Artifact
from core.text import joined
from measure.verdict import Part
from reports.axis import Axis, linear

# Of the colours from the smallest to the largest norm; readable on a light and on a dark page, and by the colour-blind.
COLOURS = np.array([(33, 64, 120), (38, 118, 142), (70, 167, 137), (155, 202, 92), (240, 229, 66)], float)


class Curve(Part):
    """A value per epoch; `points` are those of a polyline in a box of 100 x 100."""

    label: str
    values: list[float]
    axis: Axis

    @property
    def points(self) -> str:
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in self.dots)

    @property
    def dots(self) -> list[tuple[float, float]]:
        last = max(1, len(self.values) - 1)
        return [(100 * i / last, 100 - self.axis.at(value)) for i, value in enumerate(self.values)]


class Norms(Part):
    """The norms of the gradients of `layers` in `epochs`; `picture` is a data URI with a row per layer, a column per epoch.

    A norm is None where the layer had no gradient. Colours are logarithmic, from `low` to `high`.
    """

    layers: list[str]
    epochs: list[list[float | None]]
    low: float
    high: float
    picture: str

    @property
    def table(self) -> list[tuple[str, float | None, float | None, float | None]]:
        """A layer, its norm in the first and in the last epoch, and the largest of all."""
        columns = list(zip(*self.epochs, strict=True))
        return [
            (layer, norms[0], norms[-1], max((norm for norm in norms if norm is not None), default=None))
            for layer, norms in zip(self.layers, columns, strict=True)
        ]


class Training(Part):
    """`curves`: the loss, and top-1 where there are held-out images with labels.

    `augmentation`: what chance changed in the images and steps, in words. Trainings of earlier versions have neither it nor
    `norms`: None.
    """

    name: str
    epochs: float
    augmentation: str | None
    curves: list[Curve]
    norms: Norms | None


def trainings(stages: Sequence[Artifact], labelled: bool) -> list[Training]:
    """All stages that trained for at least two epochs, the longest training first."""
    found = [training(stage, labelled) for stage in stages if len(stage.metrics.get("history", [])) > 1]
    return sorted(found, key=lambda training: -training.epochs)


def training(stage: Artifact, labelled: bool) -> Training:
    history = stage.metrics["history"]
    values = {"loss": [epoch["loss"] for epoch in history]}
    if labelled and all(epoch.get("val_top1") is not None for epoch in history):
        values["top-1 of held-out images, %"] = [epoch["val_top1"] for epoch in history]
    words = stage.metrics.get("augmentation")
    return Training(
        name=stage.manifest["name"],
        epochs=stage.metrics.get("epochs", len(history)),
        augmentation=None if words is None else joined(words) or "none",
        curves=[Curve(label=label, values=found, axis=linear(found)) for label, found in values.items()],
        norms=norms(stage),
    )


def norms(stage: Artifact) -> Norms | None:
    file = stage.path / "gradients.json"
    if not file.exists():
        return None
    return norms_of(json.loads(file.read_text()))


def norms_of(recorded: dict[str, Any]) -> Norms | None:
    """The content of gradients.json, to be drawn; None if all norms are zero."""
    known = [norm for epoch in recorded["epochs"] for norm in epoch if norm]
    if not known:
        return None
    low, high = min(known), max(known)
    return Norms(**recorded, low=low, high=high, picture=picture(recorded["epochs"], low, high))


def picture(epochs: Sequence[Sequence[float | None]], low: float, high: float) -> str:
    """A PNG with a pixel per norm: a row per layer, a column per epoch; transparent where there is none."""
    span = math.log(high / low) or 1.0
    shades = np.array([[math.log(norm / low) / span if norm else np.nan for norm in epoch] for epoch in epochs]).T
    known = np.isfinite(shades)
    places = np.where(known, shades, 0.0) * (len(COLOURS) - 1)
    pixels = np.stack([np.interp(places, range(len(COLOURS)), COLOURS[:, i]) for i in range(3)] + [255.0 * known], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8), "RGBA").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
