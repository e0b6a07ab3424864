"""The limits of GATE: their verdicts, how sure they are, and when the images are too few for them."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from measure.gate import Gate
from measure.judge import Judge
from measure.limits import excess, limited, surely_above, too_few, worst_class
from measure.power import power_notes
from measure.predictions import Predictions
from measure.statistics import tango_lower, tango_upper
from measure.stratified import Paired, images_to_settle, mean_lower, mean_points, mean_upper
from measure.verdict import Drop, Verdict

NAMES = ["crack", "dent", "fine"]
LIKE = "even an engine that predicts exactly like the baseline has an upper limit of"


def judged(gate: Gate, counts: list[Paired]) -> Drop:
    """The drop of a candidate with these `counts` in the classes `NAMES`; the baseline gets wrong only what is gained."""
    labels = np.repeat(np.arange(len(counts)), [int(each.n) for each in counts])
    before, after = labels.copy(), labels.copy()
    for label, each in enumerate(counts):
        images = np.flatnonzero(labels == label)
        lost, gained = images[: int(each.lost)], images[int(each.lost) :][: int(each.gained)]
        after[lost] = before[gained] = (label + 1) % len(counts)
    found = [Predictions(np.repeat(first[:, None], 5, axis=1), labels) for first in (before, after)]
    return Judge(gate, names=NAMES).drop(*found)


def gate(**limits: Any) -> Gate:
    return Gate(**{"max_drop": None, "max_class_drop": None, **limits})


@pytest.mark.parametrize(
    ("limits", "counts", "verdict"),
    [
        ({"recall": {"crack": 0.5}}, [Paired(0, 0, 1000), Paired(900, 0, 1000), Paired(0, 0, 9)], "pass"),  # only of its class
        ({"recall": {"crack": 0.5}}, [Paired(4, 0, 1000), Paired(0, 0, 1000)], "inconclusive"),
        ({"recall": {"crack": 0.5}}, [Paired(5, 0, 1000), Paired(0, 0, 100_000)], "fail"),
        ({"recall": {"crack": 0.5}}, [Paired(0, 0, 14), Paired(0, 0, 1000)], "inconclusive"),
        ({"recall": {"crack": 0.5, "dent": 1}}, [Paired(0, 0, 1000), Paired(10, 0, 1000)], "fail"),
        ({"recall": {"fine": 0.5}}, [Paired(0, 0, 1000), Paired(0, 0, 1000)], "inconclusive"),  # a class without images
        ({"worst_class": 2}, [Paired(0, 0, 1000), Paired(5, 0, 1000), Paired(0, 0, 200)], "pass"),
        ({"worst_class": 2}, [Paired(0, 0, 1000), Paired(5, 0, 1000), Paired(0, 0, 100)], "inconclusive"),
        ({"worst_class": 2}, [Paired(0, 0, 1000), Paired(3, 0, 100)], "inconclusive"),  # 3 points, which may be chance
        ({"worst_class": 2}, [Paired(0, 0, 1000), Paired(40, 0, 1000)], "fail"),
        ({"balanced": 1}, [Paired(0, 0, 1000), Paired(0, 0, 1000)], "pass"),
        ({"balanced": 1}, [Paired(0, 0, 100_000), Paired(1, 0, 40)], "fail"),  # 0.001 points of all images
        ({"balanced": 1}, [Paired(0, 0, 100_000), Paired(0, 0, 40)], "inconclusive"),
        ({"balanced": 1, "recall": {"crack": 1}}, [Paired(9, 0, 1000), Paired(0, 30, 1000)], "inconclusive"),
        ({"max_drop": 1, "recall": {"crack": 5}}, [Paired(6, 0, 100), Paired(0, 0, 10_000)], "fail"),
    ],
)
def test_the_verdict_is_the_worst_of_all_gates(limits: dict[str, Any], counts: list[Paired], verdict: Verdict) -> None:
    drop = judged(gate(**limits), counts)
    assert drop.verdict == verdict
    assert [each.name for each in drop.gates] == list(gate(**limits).limits)
    assert all((each.needed is not None) <= (each.verdict == "inconclusive") for each in drop.gates)


def test_top1_is_reported_where_it_is_no_gate() -> None:
    drop = judged(gate(recall={"dent": 1}), [Paired(100, 0, 200), Paired(0, 0, 1000)])
    assert drop.verdict == "pass" and drop.points == pytest.approx(100 * 100 / 1200) and drop.upper_95 > drop.points
    assert drop.needed is None and [each.name for each in drop.gates] == ["recall:dent"]


def test_a_gate_of_one_class_has_the_figures_of_its_images() -> None:
    (found,) = judged(gate(recall={"dent": 5}), [Paired(0, 0, 1000), Paired(6, 2, 120)]).gates
    assert (found.label, found.n, found.limit) == ("dent", 120, 5) and found.points == pytest.approx(100 * 4 / 120)
    assert (found.lower_95, found.upper_95) == pytest.approx((tango_lower(6, 2, 120), tango_upper(6, 2, 120)))
    assert found.least_95 == pytest.approx(tango_upper(0, 0, 120)) and found.needed
    again = limited("recall:dent", [Paired(6 * found.needed / 120, 2 * found.needed / 120, found.needed)], 5)
    assert again.verdict == "pass"


def test_the_worst_class_that_decides_is_named() -> None:
    classes = {"a": Paired(0, 0, 1000), "b": Paired(0, 0, 50), "c": Paired(9, 0, 1000)}
    unsure = worst_class(classes, 2)
    assert (unsure.label, unsure.verdict, unsure.n, unsure.needed) == ("b", "inconclusive", 50, 133)
    failed = worst_class({**classes, "d": Paired(90, 0, 1000)}, 2)
    assert (failed.label, failed.verdict, failed.points, failed.needed) == ("d", "fail", 9, None)
    assert 2 < failed.lower_95 < tango_lower(90, 0, 1000), "corrected for the number of classes"


def test_the_safety_net_stays_beside_the_gates_of_classes() -> None:
    limits = Gate(max_drop=None, recall={"crack": 1})
    drop = judged(limits, [Paired(0, 0, 1000), Paired(40, 0, 100)])
    assert drop.verdict == "fail" and [entry.label for entry in drop.failed_classes] == ["dent"]
    assert [each.verdict for each in drop.gates] == ["pass"] and limits.class_limit == 5


def test_a_class_with_a_larger_limit_of_its_own_does_not_fail_by_the_safety_net() -> None:
    counts = [Paired(12, 0, 100), Paired(0, 0, 10_000)]
    assert judged(Gate(), counts).verdict == "fail"
    allowed = judged(Gate(recall={"crack": 30}), counts)
    assert allowed.verdict == "pass" and not allowed.classes
    assert judged(Gate(worst_class=30), counts).verdict == "pass"


# --- the interval of the mean over classes


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 1), (0, 0, 50), (3, 1, 40), (5, 0, 5), (0, 7, 9)])
def test_the_mean_of_one_class_has_the_limits_of_tango(lost: int, gained: int, n: int) -> None:
    assert mean_upper([Paired(lost, gained, n)]) == pytest.approx(tango_upper(lost, gained, n))
    assert mean_lower([Paired(lost, gained, n)]) == pytest.approx(tango_lower(lost, gained, n))


def test_the_mean_equals_the_formula_of_zou_and_donner() -> None:
    classes = [(3, 1, 40), (0, 0, 200), (10, 12, 90)]
    points = [100 * (lost - gained) / n for lost, gained, n in classes]
    squares = sum((tango_upper(*each) - drop) ** 2 for each, drop in zip(classes, points, strict=True))
    found = [Paired(*each) for each in classes]
    assert mean_points(found) == pytest.approx(sum(points) / 3)
    assert mean_upper(found) == pytest.approx(sum(points) / 3 + squares**0.5 / 3)


def test_without_a_lost_or_gained_image_the_mean_has_an_interval() -> None:
    classes = [Paired(0, 0, 30)] * 4
    assert mean_upper(classes) == pytest.approx(tango_upper(0, 0, 30) / 2) and mean_lower(classes) == -mean_upper(classes)
    images = images_to_settle(classes, 1.0)
    assert images and tango_upper(0, 0, -(-images // 4)) / 2 < 1 <= tango_upper(0, 0, images // 4 - 1) / 2


def draws(sizes: list[int], losses: list[float], gained: float, count: int) -> np.ndarray:
    """int [count, classes, 2]: the lost and the gained images of classes with these `sizes` and true losses in points."""
    rng = np.random.default_rng(sum(sizes) + round(1000 * gained))
    found = [
        rng.multinomial(n, [loss / 100 + gained, gained, 1 - loss / 100 - 2 * gained], count)[:, :2]
        for n, loss in zip(sizes, losses, strict=True)
    ]
    return np.stack(found, axis=1)


WRONG_PASSES = {
    "the same loss in all classes": ([20] * 8, [5.0] * 8, 5.0),
    "the same loss, few images": ([8] * 12, [20.0] * 12, 20.0),
    "one class loses all of it": ([60, 60, 60, 60], [12.0, 0.0, 0.0, 0.0], 3.0),
    "a rare class loses": ([12, 400, 400], [18.0, 0.0, 0.0], 6.0),
    "classes of all sizes": ([8, 20, 50, 150, 400], [6.0, 6.0, 6.0, 6.0, 6.0], 6.0),
    "one class gains what others lose": ([40, 40, 40], [15.0, 15.0, -15.0], 5.0),
}


@pytest.mark.parametrize("gained", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("scene", WRONG_PASSES)
def test_balanced_passes_by_chance_in_at_most_5_percent_of_draws(scene: str, gained: float) -> None:
    """At a mean loss of exactly the limit, with few images per class."""
    sizes, losses, limit = WRONG_PASSES[scene]
    if min(losses) < 0:
        gained += 0.15  # a class that gains
    passed = [
        mean_upper([Paired(int(lost), int(won), n) for (lost, won), n in zip(counts, sizes, strict=True)]) < limit
        for counts in draws(sizes, losses, gained, 1000)
    ]
    assert np.mean(passed) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_balanced_passes_a_good_engine_often() -> None:
    """10 classes of 100 images, a true loss of half of the limit."""
    counts = draws([100] * 10, [1.5] * 10, 0.005, 300)
    passed = [limited("balanced", [Paired(int(a), int(b), 100) for a, b in drawn], 3.0).verdict == "pass" for drawn in counts]
    assert np.mean(passed) > 0.6


# --- the worst of many classes


@pytest.mark.parametrize("classes", [2, 10])
def test_worst_class_passes_and_fails_by_chance_in_at_most_5_percent_of_draws(classes: int) -> None:
    """All classes lose exactly the limit: no pass is right, and no fail because of one of them."""
    limit, n, count = 5.0, 100, 1000
    tolerance = 3 * (0.05 * 0.95 / count) ** 0.5
    verdicts = [
        worst_class({str(i): Paired(int(a), int(b), n) for i, (a, b) in enumerate(drawn)}, limit).verdict
        for drawn in draws([n] * classes, [limit] * classes, 0.02, count)
    ]
    assert np.mean([verdict == "pass" for verdict in verdicts]) <= 0.05 + tolerance
    assert np.mean([verdict == "fail" for verdict in verdicts]) <= 0.05 + tolerance
    one = draws([n] * classes, [limit] + [0.0] * (classes - 1), 0.02, count)  # one class at the limit: a pass is still wrong
    passed = [
        worst_class({str(i): Paired(int(a), int(b), n) for i, (a, b) in enumerate(drawn)}, limit).verdict == "pass"
        for drawn in one
    ]
    assert np.mean(passed) <= 0.05 + tolerance


# --- too few images


@pytest.mark.parametrize(
    ("limits", "counts", "few"),
    [
        ({"recall": {"crack": 0.5}}, [Paired(0, 0, 14), Paired(0, 0, 5000)], True),
        ({"recall": {"crack": 0.5}}, [Paired(1, 0, 14), Paired(0, 0, 5000)], True),  # 7 points, which may be chance
        ({"recall": {"crack": 0.5}}, [Paired(9, 0, 14), Paired(0, 0, 5000)], False),  # it surely fails
        ({"recall": {"crack": 0.5}}, [Paired(2, 0, 1000), Paired(0, 0, 14)], False),
        ({"recall": {"crack": 0.5}, "max_drop": 1}, [Paired(0, 0, 14), Paired(400, 0, 5000)], False),  # top-1 surely fails
        ({"recall": {"fine": 0.5}}, [Paired(0, 0, 14), Paired(0, 0, 5000)], True),
        ({"worst_class": 2}, [Paired(0, 0, 14), Paired(0, 0, 5000)], True),
        ({"worst_class": 2}, [Paired(0, 0, 14), Paired(300, 0, 5000)], False),
        ({"balanced": 1}, [Paired(0, 0, 14), Paired(0, 0, 5000)], True),
        ({"balanced": 1}, [Paired(3, 0, 1000), Paired(15, 0, 1000)], False),
    ],
)
def test_whether_the_images_of_a_gate_are_too_few_to_tell(limits: dict[str, Any], counts: list[Paired], few: bool) -> None:
    assert too_few(judged(gate(**limits), counts)) is few


@pytest.mark.parametrize(
    ("limits", "counts", "above"),
    [
        ({"recall": {"crack": 1}}, [Paired(30, 0, 1000), Paired(0, 0, 1000)], True),
        ({"recall": {"crack": 1}}, [Paired(22, 0, 1000), Paired(0, 0, 1000)], False),  # more than twice the limit by chance
        ({"recall": {"crack": 1}}, [Paired(1, 0, 20), Paired(0, 0, 1000)], True),  # no engine could pass: what is seen counts
        ({"recall": {"crack": 1}}, [Paired(0, 0, 20), Paired(900, 0, 1000)], False),
        ({"worst_class": 1}, [Paired(0, 0, 1000), Paired(40, 0, 1000)], True),
        ({"balanced": 1}, [Paired(0, 0, 1000), Paired(60, 0, 1000)], True),
    ],
)
def test_whether_a_drop_is_surely_above_twice_a_limit(limits: dict[str, Any], counts: list[Paired], above: bool) -> None:
    assert surely_above(judged(gate(**limits), counts), 2.0) is above


def test_the_excess_is_that_of_the_gate_that_is_exceeded_most() -> None:
    assert excess(judged(gate(max_drop=1, recall={"crack": 0.5}), [Paired(50, 0, 1000), Paired(0, 0, 1000)])) == 4.5
    assert excess(judged(gate(max_drop=1), [Paired(50, 0, 1000), Paired(0, 0, 1000)])) == 1.5


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"recall": {"crack": 0.5}},
            f"Class 'crack' has 14 test images, too few for recall:crack=0.5: {LIKE} 16; at least 539 are needed.",
        ),
        (
            {"recall": {"fine": 0.5}},
            f"Class 'fine' has 0 test images, too few for recall:fine=0.5: {LIKE} 100; at least 539 are needed.",
        ),
        (
            {"worst_class": 2},
            f"1 of 2 classes have too few test images for worst_class=2: 'crack' (14). With 14, {LIKE} 16; at least 133 are "
            "needed of every class.",
        ),
        (
            {"balanced": 1},
            f"1,014 test images of 2 classes are too few for balanced=1: {LIKE} 8.1; at least 9,603 are needed, with the same "
            "share of every class.",
        ),
        ({"recall": {"dent": 0.5}}, ""),
        ({"balanced": 10}, ""),
    ],
)  # fmt: skip
def test_says_before_training_that_a_gate_has_too_few_images(limits: dict[str, Any], said: str) -> None:
    judge, labels = Judge(gate(**limits), names=NAMES), np.repeat([0, 1], [14, 1000])
    assert power_notes(judge, labels) == ([said] if said else [])
    assert power_notes(judge, np.full(1000, -1)) == [], "of unlabelled images the classes are not known yet"


@pytest.mark.parametrize(
    "limits", [{"max_drop": None}, {"worst_class": -1}, {"worst_class": 100}, {"recall": {"a": float("nan")}},
               {"balanced": float("inf")}]
)  # fmt: skip
def test_a_gate_without_a_limit_or_with_a_wrong_one_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gate(**limits)


def test_the_gate_is_written_as_the_user_writes_it() -> None:
    limits = Gate(max_drop=1, recall={"crack": 0.5, "dent": 2}, worst_class=2, balanced=1)
    assert limits.text == "top1=1,recall:crack=0.5,recall:dent=2,worst_class=2,balanced=1"
    assert Gate().text == "top1=1"
