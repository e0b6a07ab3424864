"""Which images train, are held out, calibrate or are left to the gate. Always the same ones, by a fixed seed."""

import numpy as np

CALIBRATION_SHARE, CALIBRATION_IMAGES = 0.2, 1024


def held_out(labels: np.ndarray, holdout: float, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the held-out images: the same share of every class, by a fixed seed.

    At least one of every class is held out, except of classes with a single image: that one is for training.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    if limit is not None:
        order = order[: round(limit / (1 - holdout))]
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held[members[: max(len(members) > 1, round(len(members) * holdout))]] = True
    return np.sort(order[~held[order]]), np.sort(order[held[order]])


def calibrating(labels: np.ndarray, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images that calibrate and of the others, where there are no training images.

    A fifth of the images, at most 1,024 (or `limit`), the same share of every class and at least one of each, except of
    classes with a single image: the gate needs that.
    """
    counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts[2].max(initial=0) == 1:  # one image per class: any of them may calibrate
        counts = np.unique(np.zeros_like(labels), return_inverse=True, return_counts=True)
    _, group, sizes = counts
    order = np.lexsort((np.random.default_rng(0).permutation(len(labels)), group))  # by class, shuffled within
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(first, sizes)
    shared = sizes[group] > 1
    wanted = max(round(CALIBRATION_SHARE * int(shared.sum())), int((sizes > 1).sum()))
    wanted = min(wanted, CALIBRATION_IMAGES, limit or CALIBRATION_IMAGES)
    # The first of every class, then so that every class has given about the same share at any time.
    turn = np.where(rank == 0, 0.0, (rank + 0.5) / sizes[group])
    turn[~shared] = np.inf
    chosen = np.zeros(len(labels), bool)
    chosen[np.lexsort((np.random.default_rng(1).permutation(len(labels)), turn))[:wanted]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def thinned(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `count` indices, evenly spaced: files are sorted by class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).astype(int)
