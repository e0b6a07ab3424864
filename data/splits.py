"""Which images train, calibrate, choose and judge. It is always the same, by a fixed seed or by content."""

import hashlib

import numpy as np

from data.files import Files

CALIBRATION_SHARE, CALIBRATION_IMAGES = 0.2, 1024
TEST_SHARE, MOST_TESTED = 0.2, 50_000
HASHED = 100_000  # images: of larger sets the names are hashed, because reading all files takes as long as an epoch
FEWEST_TO_CHOOSE = 300  # with fewer images, hardly any engine passes
MOST_TO_CHOOSE = 10_000  # held-out training images: more would say little more, and each is taken from the training
MOST_HELD_OUT = 0.2  # of the training images, where a smaller share would be fewer
ENOUGH = 800  # training images: with fewer, each one is needed for training, and a fifth of them would still tell little


def tested(hashes: np.ndarray, labels: np.ndarray, share: float = TEST_SHARE) -> np.ndarray:
    """bool [N]: `share` of every class, by the `hashes`. Equal hashes stay together. A class's only image is not chosen."""
    chosen = np.zeros(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    for members in np.split(order, first[1:]):
        distinct = np.unique(hashes[members])
        if len(distinct) > 1:
            chosen[members] = np.isin(hashes[members], distinct[: max(1, round(share * len(distinct)))])
    return chosen


def choosing(hashes: np.ndarray, group: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """bool [N]: `share` of the images, the same of every class, by the hashes of their content.

    Images of one `group` [N] (copies of each other) are on the same side and count as one image. At least `FEWEST_TO_CHOOSE`
    are chosen, but never more than half. The only image of a class is not chosen, except where no class has two.
    """
    by_hash = np.argsort(hashes, kind="stable")
    _, first = np.unique(group[by_hash], return_index=True)
    heads = by_hash[np.sort(first)]  # one image of every group, in the order of the hashes
    _, own, sizes = np.unique(labels[heads], return_inverse=True, return_counts=True)
    if sizes.max() == 1:
        own, sizes = np.zeros(len(heads), np.int64), np.asarray([len(heads)])
    rank = np.empty(len(heads), np.int64)
    for label in range(len(sizes)):
        rank[own == label] = np.arange(sizes[label])
    most = len(heads) // 2
    wanted = min(most, max(round(share * len(heads)), min(FEWEST_TO_CHOOSE, most)))
    # In this order, all classes give about the same share at any time.
    turn = np.where(sizes[own] > 1, (rank + 0.5) / sizes[own], np.inf)
    order = np.argsort(turn, kind="stable")[:wanted]
    return np.isin(group, group[heads[order[np.isfinite(turn[order])]]])


def content_hash(files: Files, i: int) -> str:
    """A hash of the content of image `i`. An unreadable file counts as empty; it is left out later."""
    try:
        return hashlib.sha256(files.content(i)).hexdigest()[:16]
    except OSError:
        return hashlib.sha256().hexdigest()[:16]


def name_hash(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:16]


def held_out(labels: np.ndarray, holdout: float, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the held-out images: the same share of every class, by a fixed seed.

    The share is `holdout`. Where that is less than `FEWEST_TO_CHOOSE` images and a set has `ENOUGH`, up to `MOST_HELD_OUT` are.
    At least one of every class is held out, except of classes with a single image: that one is for training. Never more than
    `MOST_TO_CHOOSE` images are held out.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    if min(len(labels), limit or len(labels)) >= ENOUGH:
        images = len(labels) if limit is None else min(len(labels), limit + FEWEST_TO_CHOOSE)
        holdout = max(holdout, min(MOST_HELD_OUT, FEWEST_TO_CHOOSE / images))
    if limit is not None:
        holdout = min(holdout, MOST_TO_CHOOSE / (limit + MOST_TO_CHOOSE))
        order = order[: round(limit / (1 - holdout))]
    holdout = min(holdout, MOST_TO_CHOOSE / max(len(order), 1))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, first, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    wanted = np.maximum(sizes > 1, np.round(sizes * holdout).astype(np.int64))
    rank = np.arange(len(by_class)) - np.repeat(first, sizes)
    held = rank < np.repeat(wanted, sizes)
    held[np.flatnonzero(held)[np.argsort(rank[held], kind="stable")[MOST_TO_CHOOSE:]]] = False
    return np.sort(by_class[~held]), np.sort(by_class[held])


def drawn(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `count` indices, by a fixed seed."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def calibrating(labels: np.ndarray, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the calibration images and of the test images, if there are no training images.

    Calibration gets a fifth of the images, at most 1,024 (or `limit`): the same share of every class and at least one image of
    each. The only image of a class is a test image.
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
    # First one image of every class, then in an order in which all classes give about the same share at any time.
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
