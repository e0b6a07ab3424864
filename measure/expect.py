"""Is the baseline what the user thinks it is? Asked before hours are spent on pressing it.

A wrong mean, colour order or order of classes costs accuracy silently, and a network that guesses has none to lose.
"""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import Field
from scipy import stats

from core.config import Config

SIGNIFICANCE = 0.05
ENOUGH = 50


class Expect(Config):
    """`top1` is the percentage that the checkpoint is known to have; `tolerance` points below it, and the sampling error of
    the images there are, are forgiven."""

    top1: float | None = Field(default=None, ge=0, le=100)
    tolerance: float = Field(default=1.0, ge=0)


def check(config: Expect, found: dict[str, Any], images: Path) -> None:
    """`found` is what `measure.predict` says about the FP32 baseline.

    Raises ValueError when it is far below what was stated, or, where nothing was stated and there are `ENOUGH` images to tell,
    cannot be told from guessing.
    """
    dataset = json.loads((images / "dataset.json").read_text())
    top1, n, classes = found["top1"], found["n"], len(dataset["classes"])
    if top1 is None:
        if config.top1 is not None:
            raise ValueError(f"--expect-top1 needs labelled images and DATA {dataset['name']} has no labels; leave it out")
        return
    got = f"the FP32 baseline gets {top1:.2f} % of {n:,} images right"
    advice = (
        "preprocessing mismatch? Check --mean, --std, --input-size, --resize, --crop-pct, --interpolation, --channels "
        f"(used: {spelled(dataset['preprocess'])}) and the order of the classes (labels.txt beside the checkpoint)"
    )
    if config.top1 is not None:
        share = config.top1 / 100
        error = stats.norm.ppf(1 - SIGNIFICANCE) * math.sqrt(share * (1 - share) / n)
        if top1 < config.top1 - config.tolerance - 100 * error:
            raise ValueError(f"{got}, expected {config.top1:g} %: {advice}")
    elif classes > 1 and n >= ENOUGH and guessing(found["correct"], n, classes):
        raise ValueError(
            f"{got}, which cannot be told from guessing among {classes} classes: {advice}; if this is what it has, say so with "
            f"--expect-top1 {top1:.0f}"
        )


def guessing(correct: int, n: int, classes: int) -> bool:
    """Whether so many right answers are likely enough by chance."""
    return bool(stats.binomtest(correct, n, 1 / classes, alternative="greater").pvalue > SIGNIFICANCE)


def spelled(preprocess: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in preprocess.items())
