"""predictions.npz of an engine -> its accuracy, or its agreement with the FP32 baseline if the images have no labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from measure.verdict import Accuracy, Agreement

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """`top5` [N, 5]: the best classes of every test image, best first; `labels` [N], -1 for unlabelled images."""

    top5: Classes
    labels: Classes

    @property
    def first(self) -> Classes:
        return self.top5[:, 0]


def read_predictions(stage: Path) -> Predictions:
    with np.load(stage / "predictions.npz") as arrays:
        return Predictions(top5=arrays["top5"].astype(np.int64), labels=arrays["labels"].astype(np.int64))


def truth_of(baseline: Predictions) -> Classes:
    """The label of every image; for unlabelled images, the prediction of the baseline."""
    return baseline.labels if (baseline.labels >= 0).all() else baseline.first


def accuracy_of(predictions: Predictions) -> Accuracy:
    hits = predictions.top5 == predictions.labels[:, None]
    return Accuracy(
        top1=100 * float(hits[:, 0].mean()),
        top5=100 * float(hits.any(axis=1).mean()),
        correct=int(hits[:, 0].sum()),
        n=len(hits),
    )


def agreement_of(baseline: Predictions, predictions: Predictions) -> Agreement:
    same = predictions.first == baseline.first
    return Agreement(percent=100 * float(same.mean()), agreeing=int(same.sum()), n=len(same))
