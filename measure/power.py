"""Before anything is trained: do the limits of GATE have enough test images? The labels of the test images -> notes.

A limit has too few if even an engine that predicts exactly like the baseline could not pass.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from core.text import some
from measure.judge import Judge, named
from measure.predictions import Classes
from measure.stratified import Paired, images_to_settle, mean_upper

SHARE = 0.05  # points; the user may have meant a smaller limit as a fraction of 1
SHOWN = 3  # classes in a note
LIKE_BASELINE = "even an engine that predicts exactly like the baseline has an upper limit of"


def power_notes(judge: Judge, labels: Classes) -> list[str]:
    """A note for every limit with too few of the images that `labels` [N] are of; of unlabelled images only for top-1."""
    counted = labels if judge.counted is None else labels[judge.counted]
    gate, sizes = judge.gate, Counter(named(judge.names, int(label)) for label in counted if label >= 0)
    notes = [] if gate.max_drop is None else [*top1_notes(len(counted), gate.max_drop)]
    if not sizes:
        return notes
    notes += [note for name, limit in gate.recall.items() for note in recall_notes(name, sizes[name], limit)]
    if gate.worst_class is not None:
        notes += worst_class_notes(sizes, gate.worst_class)
    if gate.balanced is not None:
        notes += balanced_notes(list(sizes.values()), gate.balanced)
    return notes


def forecast_notes(n: int, max_drop: float | None) -> list[str]:
    """A note if `n` images are too few for an engine to pass that changes 2 % of the predictions and loses nothing by it."""
    needed = None if max_drop is None else images_to_settle([Paired(lost=0.01, gained=0.01, n=1)], max_drop)
    if needed is None or n >= needed:
        return []
    return [
        f"An engine that changes 2 % of the predictions, as many gained as lost, needs {needed:,} test images to pass a limit "
        f"of {max_drop:g} point{'s' * (max_drop != 1)}; {n:,} count here."
    ]


def top1_notes(n: int, limit: float) -> Iterator[str]:
    if not (few := missing([n], limit)):
        return
    yield (
        f"{n:,} test image{'s are' if n != 1 else ' is'} too few for a limit of {limit:g} point{'s' * (limit != 1)}: "
        f"{LIKE_BASELINE} {few}."
    )
    if limit < SHARE:
        yield f"MAX_DROP={limit:g} is {limit:g} percentage points; 1 means one point of accuracy."


def recall_notes(name: str, n: int, limit: float) -> Iterator[str]:
    if few := missing([n], limit):
        size = f"{n:,} test image{'s' * (n != 1)}"
        yield f"Class {name!r} has {size}, too few for recall:{name}={limit:g}: {LIKE_BASELINE} {few}."


def worst_class_notes(sizes: Counter[str], limit: float) -> Iterator[str]:
    small = sorted((name for name, n in sizes.items() if missing([n], limit)), key=lambda name: (sizes[name], name))
    if small:
        shown = [f"{name!r} ({sizes[name]:,})" for name in small]
        least = sizes[small[0]]
        yield (
            f"{len(small):,} of {len(sizes):,} classes have too few test images for worst_class={limit:g}: "
            f"{some(shown, SHOWN)}. With {least:,}, {LIKE_BASELINE} {missing([least], limit)} of every class."
        )


def balanced_notes(sizes: Sequence[int], limit: float) -> Iterator[str]:
    if few := missing(sizes, limit):
        yield (
            f"{sum(sizes):,} test images of {len(sizes):,} classes are too few for balanced={limit:g}: {LIKE_BASELINE} {few}, "
            "with the same share of every class."
        )


def missing(sizes: Sequence[int], limit: float) -> str:
    """The upper limit of an engine that predicts exactly like the baseline on classes of these `sizes`, and how many images are
    needed; "" if it passes, and if it fails with any number of images."""
    classes = [Paired(0, 0, n) for n in sizes]
    least = mean_upper(classes)
    if limit <= 0 or least < limit:
        return ""
    needed = images_to_settle(classes, limit)
    enough = f"at least {needed:,} are needed" if needed else "no realistic number of images is enough"
    return f"{float(f'{least:.2g}'):g}; {enough}"
