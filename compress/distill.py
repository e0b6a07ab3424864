"""student + teacher -> the student, trained to predict like the teacher (model.json, model.safetensors).

Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531). The loss: compress/teach.py.
"""

import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from compress.fit import Task, fit, tidy
from compress.teach import Teaching, predicts_once, teaching_loss
from compress.top1 import right
from core import ranks
from data.loader import Split
from models.checkpoint import load, save


class Distill(Teaching):
    """`control`: train the student a second time, as long but without the teacher, to measure what the teacher gains.

    This doubles the time, also beyond `minutes`.
    """

    control: bool = False


@ranks.together
def distill(config: Distill, out: Path, *, student: Path, teacher: Path, images: Path) -> dict[str, Any]:
    """Train the student on the training images; both networks get the same crop.

    `notes` say what the teacher gained. With `control`, `control` in the metrics counts the `held_out` images, and those that
    only the distilled student (`gained`) or only the control (`lost`) predicts correctly.
    Raises ValueError when the loss is no longer finite, or when `feature` is set and the teacher is not of the ResNet family.
    """
    started = time.perf_counter()
    model, spec = load(student)
    guide, guide_spec = load(teacher)
    loss = teaching_loss(guide, config, out, images)
    task = Task(model, loss, images, f"distill {guide_spec.arch} -> {spec.arch}", by_index=predicts_once(config, images))
    metrics = fit(task, config, out, since=started)
    val = Split(images, "val")
    mine = right(model, val)
    metrics |= {"val_top1": percent(mine), "teacher_val_top1": percent(right(guide, val))}
    if config.control and not config.plain and metrics["epochs"] and len(val):
        alone = without_teacher(config, math.ceil(metrics["epochs"]), out / "control", student=student, images=images)
        metrics |= compared(mine, alone)
        metrics["notes"] += [gain_note(metrics)]
    if not config.plain and metrics["epochs"] and len(val) and metrics["teacher_val_top1"] <= metrics["val_top1"]:
        metrics["notes"] += [
            f"The teacher ({metrics['teacher_val_top1']:.2f} % of held-out images) is no better than the student "
            f"({metrics['val_top1']:.2f} %): fine-tuning without it (--set distill.alpha=0) may be as good."
        ]
    ranks.main_goes_on()
    save(model, spec, out)
    tidy(out)
    shutil.rmtree(out / "control", ignore_errors=True)
    return metrics


def without_teacher(config: Distill, epochs: int, out: Path, *, student: Path, images: Path) -> np.ndarray:
    """Which held-out images the student predicts correctly after the same training on the labels alone: bool [N]."""
    alone = {"alpha": 0.0, "feature": 0.0, "epochs": epochs, "min_steps": 0, "minutes": None, "most_minutes": None}
    config = config.model_copy(update=alone)
    model, spec = load(student)
    out.mkdir(exist_ok=True)
    loss = teaching_loss(model, config, out, images)
    fit(Task(model, loss, images, f"control: {spec.arch} alone"), config, out)
    return right(model, Split(images, "val"))


def compared(mine: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
    """The metrics of the control, from the held-out images that the student and the control predict correctly (bool [N])."""
    counts = {"held_out": len(mine), "gained": int((mine & ~alone).sum()), "lost": int((alone & ~mine).sum())}
    return {"control_val_top1": percent(alone), "control": counts}


def gain_note(metrics: dict[str, Any]) -> str:
    """What distillation gained, in one sentence.

    A difference counts when McNemar's test (1947) finds it at 5 %: |gained - lost| > 1.96 sqrt(gained + lost). The test covers
    the choice of the images, not the difference between two trainings with other seeds.
    """
    counts = metrics["control"]
    gained, lost = counts["gained"], counts["lost"]
    found = "made no difference that these images can show"
    if abs(gained - lost) > 1.96 * (gained + lost) ** 0.5:
        points = metrics["val_top1"] - metrics["control_val_top1"]
        found = f"{'gained' if points > 0 else 'lost'} {abs(points):.2f} points of held-out top-1"
    return (
        f"Distillation {found} compared with the same fine-tuning without a teacher: {metrics['val_top1']:.2f} % and "
        f"{metrics['control_val_top1']:.2f} % (n = {counts['held_out']:,}; {gained} correct only with the teacher, {lost} only "
        "without it; one seed)."
    )


def percent(right: np.ndarray) -> float | None:
    return 100 * float(right.mean()) if len(right) else None
