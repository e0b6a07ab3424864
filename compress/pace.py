"""student + teacher + images -> how long an epoch of distillation takes here (metrics only). Nothing is trained."""

from pathlib import Path
from typing import Any

from compress.distill import Distill
from compress.fit import Task, pace_on
from compress.teach import predicts_once, teaching_loss
from core import ranks
from data.loader import Split
from models.checkpoint import load


@ranks.together
def pace(config: Distill, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Time some training steps of `student`, with the settings of `distill`, and the evaluation after an epoch."""
    model, _ = load(student)
    guide, _ = load(teacher)
    split = Split(images, "train", config.augment)
    if predicts_once(config, images):
        config = config.model_copy(update={"alpha": 0.0})
    task = Task(model, teaching_loss(guide, config, out, images), images, "pace")
    found = pace_on(task, config, given=60.0)
    steps = max(1, len(split) // config.batch_size)
    return {"images_per_second": config.batch_size / found.step, "seconds_per_epoch": found.epoch(steps), "steps": steps}
