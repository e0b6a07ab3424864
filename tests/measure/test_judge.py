"""What the gate says about classes: who fails, who is suspected, and how often it is wrong by chance."""

from functools import cache

import numpy as np
import pytest

from measure.gate import Gate
from measure.judge import Judge
from measure.power import power_notes
from measure.predictions import Predictions
from measure.statistics import holm, p_above, tango_lower
from measure.verdict import ClassVerdict, Drop

NONE_WRONG = np.empty(0, int)


def predictions(labels: np.ndarray, wrong: np.ndarray, classes: int, labelled: bool = True) -> Predictions:
    """Right except for the images in `wrong`."""
    first = labels.copy()
    first[wrong] = (labels[wrong] + 1) % classes
    return Predictions(np.repeat(first[:, None], 5, axis=1), labels if labelled else np.full(len(labels), -1))


def lose(counts: list[int], lost: dict[int, int], judge: Judge | None = None, labelled: bool = True) -> Drop:
    """The drop of a candidate that loses the first `lost[label]` images of classes with `counts` images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    start = np.cumsum([0, *counts])
    wrong = np.concatenate([np.arange(start[label], start[label] + count) for label, count in lost.items()] or [[]]).astype(int)
    baseline = predictions(labels, NONE_WRONG, len(counts), labelled)
    return (judge or Judge(Gate())).drop(baseline, predictions(labels, wrong, len(counts), labelled))


@pytest.mark.parametrize(
    ("counts", "lost", "verdict"),
    [
        ([1992, 8], {1: 8}, "fail"),  # top-1 hardly moves
        ([2000, 4], {1: 4}, "fail"),
        ([*[100] * 9, 8], {9: 8}, "fail"),
        ([*[200] * 99, 8], {99: 8}, "fail"),
        ([5000, 100], {1: 20}, "fail"),
        ([100_000, 1000], {1: 80}, "fail"),
        ([2000, 3], {1: 3}, "suspicious"),  # all of it, but three images could be chance
        ([*[1000] * 99, 4], {99: 4}, "suspicious"),
        ([5000, 100], {1: 10}, "suspicious"),  # significant for one class, not for the worst of two
        ([5000, 100], {1: 8}, "pass"),
        ([2000, 1], {1: 1}, "pass"),  # one image says nothing
        ([1000, 1000], {}, "pass"),
    ],
)  # fmt: skip
def test_verdict_of_a_class(counts: list[int], lost: dict[int, int], verdict: ClassVerdict) -> None:
    drop = lose(counts, lost)
    worst = max(lost, default=0)
    assert {entry.label: entry.verdict for entry in drop.classes} == ({} if verdict == "pass" else {f"class {worst}": verdict})
    constant = len(counts) == 2 and lost.get(1) == counts[1]  # it predicts class 0 for all images
    assert drop.doubts == (["constant"] if constant else [])
    passes = "inconclusive" if constant else "pass"
    assert drop.verdict == ("fail" if verdict == "fail" else passes), "of all images, too little is lost to fail"


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        (Gate(), "fail"),
        (Gate(max_class_drop=None), "pass"),
        (Gate(max_class_drop=30), "fail"),
        (Gate(max_class_drop=60), "pass"),
        (Gate(max_drop=60), "pass"),  # what may be lost of all may be lost of a class
        (Gate(max_drop=100), "pass"),
    ],
)
def test_the_limit_of_a_class(gate: Gate, verdict: str) -> None:
    assert lose([20_000, 80], {1: 48}, Judge(gate)).verdict == verdict


def test_unlabelled_images_are_judged_by_the_class_that_the_baseline_predicts() -> None:
    (entry,) = lose([1992, 8], {1: 8}, Judge(Gate(), names=["ok", "defect"]), labelled=False).failed_classes
    assert (entry.label, entry.baseline_top1, entry.top1, entry.lost, entry.n) == ("defect", 100, 0, 8, 8)


def test_only_counted_images_count() -> None:
    counted = np.zeros(600, bool)
    counted[::20] = True
    drop = lose([300, 300], {0: 19}, Judge(Gate(), counted))
    assert (drop.n, drop.lost) == (30, 1), "one of 20 copies"
    assert drop.verdict == "fail" and not drop.failed_classes, "3.3 points of all"


def test_all_images_count_where_none_is_excluded() -> None:
    judged = Judge(Gate(), np.ones(2000, bool))
    assert lose([1000, 1000], {0: 3, 1: 5}, judged) == lose([1000, 1000], {0: 3, 1: 5})


LABELS = np.repeat([0, 1, 2], [500, 300, 200])


@pytest.mark.parametrize(
    ("before", "after", "doubts"),
    [
        (LABELS, LABELS, []),
        (LABELS, np.zeros(1000, int), ["constant"]),
        (np.zeros(1000, int), LABELS, ["chance", "far_better"]),
        (np.zeros(1000, int), np.zeros(1000, int), ["chance", "constant"]),
        (np.arange(1000) % 3, np.arange(1000) % 3, ["chance"]),
        (np.where(np.arange(1000) % 16, LABELS, 1 - LABELS % 2), LABELS, ["far_better"]),  # 6.3 points
        (np.where(np.arange(1000) % 25, LABELS, 1 - LABELS % 2), LABELS, []),  # 4 points
    ],
)
def test_no_engine_passes_with_a_doubt(before: np.ndarray, after: np.ndarray, doubts: list[str]) -> None:
    baseline, candidate = (Predictions(np.repeat(each[:, None], 5, axis=1), LABELS) for each in (before, after))
    drop = Judge(Gate(), doubts_gains=True).drop(baseline, candidate)
    assert drop.doubts == doubts
    assert drop.verdict == ("fail" if drop.points >= 1 else "inconclusive" if doubts else "pass")


def test_images_of_one_class_show_nothing() -> None:
    drop = lose([1000], {})
    assert drop.doubts == ["one_class"] and drop.verdict == "inconclusive"
    counted = np.repeat([True, False], [900, 100])  # the images of the other class do not count
    assert lose([900, 100], {}, Judge(Gate(), counted)).doubts == ["one_class"]
    assert lose([900, 100], {}, Judge(Gate(), np.ones(1000, bool))).doubts == []


def test_an_engine_may_be_far_better_than_an_earlier_one() -> None:
    labels = np.repeat([0, 1], 500)
    drop = Judge(Gate()).drop(predictions(labels, np.arange(60), 2), predictions(labels, NONE_WRONG, 2))
    assert drop.points == -6 and drop.verdict == "pass" and drop.doubts == []


def test_gains_offset_losses_and_the_baseline_stands_beside() -> None:
    labels = np.repeat([0, 1], 100)
    baseline, candidate = predictions(labels, np.arange(100, 130), 2), predictions(labels, np.arange(120, 160), 2)
    entry = Judge(Gate(), names=["a", "b"]).per_class(baseline, candidate)[1]
    assert (entry.label, entry.baseline_top1, entry.top1, entry.lost, entry.gained, entry.points) == ("b", 70, 60, 30, 20, 10)
    assert entry.lower_95 == tango_lower(30, 20, 100) and entry.p is not None and entry.verdict == "pass"


@pytest.mark.parametrize(
    ("lost", "n", "p"),
    [(8, 8, (1.1 / 3) ** 8), (5, 5, (1.1 / 3) ** 5), (1, 20, 1.0), (1, 2, None)],
)
def test_p_value_of_small_classes(lost: int, n: int, p: float | None) -> None:
    """All lost: the most that may be lost by chance is 11 in 30, because half of what the baseline gets wrong stays wrong."""
    found = p_above(lost, 0, n, 5.0)
    assert found == pytest.approx(p) if p is not None else 0.05 < found < 1


def test_holm_equals_the_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.6]) == [1.0, 1.0]


P_ABOVE = cache(p_above)


@pytest.mark.parametrize("gained", [0.0, 0.01, 0.05, 0.2])
@pytest.mark.parametrize(
    ("n", "classes"), [(5, 2), (8, 10), (20, 100), (50, 2), (100, 2), (100, 100), (300, 10), (1000, 2), (1000, 100)]
)
def test_few_fail_by_chance(n: int, classes: int, gained: float) -> None:
    """At a loss of exactly 5 points in every class, at most 5 % of engines fail because of any class."""
    trials = 40_000 // classes
    rng = np.random.default_rng(n * classes)
    rates = [0.05 + gained, gained, 0.95 - 2 * gained]
    counts, of_class = np.unique(rng.multinomial(n, rates, (trials, classes)).reshape(-1, 3), axis=0, return_inverse=True)
    p_values = np.asarray([P_ABOVE(int(lost), int(won), n, 5.0) for lost, won, _ in counts])[of_class.ravel()]
    failed = np.mean(p_values.reshape(trials, classes).min(axis=1) * classes < 0.05)  # what Holm rejects first
    assert failed <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


@pytest.mark.parametrize(
    ("n", "max_drop", "said"),
    [
        (120, 1.0, ["120 test images are too few for a limit of 1 point: even an engine that predicts exactly like the "
                    "baseline has an upper limit of 2.2; at least 268 are needed."]),
        (267, 1.0, ["at least 268 are needed"]),
        (268, 1.0, []),
        (10_000, 0.5, []),
        (10_000, 0.01, ["at least 27,053 are needed", "MAX_DROP=0.01 is 0.01 percentage points; 1 means one point"]),
        (30_000, 0.01, []),
        (30, 0.0, []),  # fails with any number of images
        (30, 100.0, []),
    ],
)  # fmt: skip
def test_says_when_no_engine_can_pass(n: int, max_drop: float, said: list[str]) -> None:
    notes = power_notes(Judge(Gate(max_drop=max_drop)), np.zeros(n, int))
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))
