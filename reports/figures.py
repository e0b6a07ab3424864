"""A report and the folder of its run -> what only report.html shows: figures, and thumbnails of lost and gained images."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from measure.verdict import Part
from reports.changed import LostImage
from reports.distributions import distributions
from reports.headline import Headline
from reports.layers import layers_of
from reports.level_figure import levels_figure
from reports.run_folder import RunRecord
from reports.schema import Report
from reports.thumbnails import thumbnails
from reports.trail import trail
from reports.training import trainings

SCRIPT = Path(__file__).parent / "templates" / "sort.js"
PICTURES = 24
PAIRS = 15  # of classes; report.json has more
LAYERS = 12  # of those that 8 bits hurt most


class Picture(Part):
    """A lost or gained image and its data URI; None if it can no longer be opened."""

    image: LostImage
    uri: str | None


def figures(report: Report, opening: Headline | None, run: RunRecord) -> dict[str, Any]:
    """Values for the templates, by name. The headline's engine is the one that is drawn."""
    row = opening.row.id if opening else None
    layers = layers_of(run, opening.row.on if opening else None)
    damaged = (
        sorted((layer for layer in layers.layers if layer.damage), key=lambda layer: -(layer.damage or 0)) if layers else []
    )
    script = SCRIPT.read_text()
    return {
        "distributions": distributions(report.rows),
        "layers": layers,
        "damaged": damaged[:LAYERS],
        "trainings": trainings(run.stages, report.dataset.labelled),
        "confusions": [pair for pair in report.confusions if pair.row == row][:PAIRS],
        "lost_pictures": pictures([image for image in report.lost_images if image.row == row], run.images.path),
        "gained_pictures": pictures([image for image in report.gained_images if image.row == row], run.images.path),
        "levels": levels_figure(report),
        "trail": trail(report.stages),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def pictures(images: list[LostImage], index: Path) -> list[Picture]:
    """The first of `images`; `index` is the folder of the stage of that name."""
    shown = images[:PICTURES]
    uris = thumbnails(index, [image.index for image in shown]) if shown else {}
    return [Picture(image=image, uri=uris.get(image.index)) for image in shown]
