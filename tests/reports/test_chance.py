"""Classes in the order of what chance does not explain."""

import pytest

from reports.chance import MOST, per_class_figure, unequal
from reports.changed import ClassDrop


def entry(label: str, lost: int, gained: int, n: int = 100, **more: str) -> ClassDrop:
    points = 100 * (lost - gained) / n
    return ClassDrop(
        row="student-int8/onnxruntime", label=label, n=n, baseline_top1=90.0, top1=90.0 - points, points=points, lost=lost,
        gained=gained, lower_95=points - 2, upper_95=points + 2, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(0, 0, 1.0), (3, 3, 1.0), (5, 0, 2 * 0.5**5), (0, 5, 2 * 0.5**5), (6, 1, 16 / 128)]
)
def test_the_exact_test_of_mcnemar(lost: int, gained: int, p: float) -> None:
    assert unequal(lost, gained) == pytest.approx(p)


def test_what_chance_does_not_explain_comes_first() -> None:
    """A small class that lost 3 of 4 images lost most points, but that may be chance."""
    small, many, even, gains = entry("small", 3, 0, n=4), entry("many", 20, 2), entry("even", 9, 9), entry("gains", 0, 12)
    found = per_class_figure([even, gains, small, many])
    assert found is not None and [shown.entry.label for shown in found.classes] == ["many", "small", "even", "gains"]
    by_label = {shown.entry.label: shown for shown in found.classes}
    assert not by_label["many"].explained and by_label["small"].explained and by_label["even"].explained
    assert not by_label["gains"].explained, "a gain can also be more than chance"
    assert by_label["small"].p == pytest.approx(min(1, 0.25 * 2)), "the third of four p-values in order, after Holm"


def test_a_failed_class_is_never_below_one_that_passes() -> None:
    found = per_class_figure([entry("passes", 30, 0, n=1000), entry("fails", 4, 0, verdict="fail")])
    assert found is not None and [shown.entry.label for shown in found.classes] == ["fails", "passes"]


def test_places_on_the_axis_and_the_classes_that_are_left_out() -> None:
    classes = [entry(f"class {i}", 30 - i, 0) for i in range(MOST + 5)]
    found = per_class_figure(classes)
    assert found is not None and len(found.classes) == MOST and found.more == 5 and found.at_most == 10
    for shown in found.classes:
        assert shown.low < shown.at < shown.high
    assert found.zero == found.axis.at(0) < found.classes[0].at


def test_runs_of_earlier_versions_have_no_limits() -> None:
    found = per_class_figure([entry("a", 1, 0).model_copy(update={"lower_95": None, "upper_95": None})])
    assert found is not None and found.classes[0].low == found.classes[0].at == found.classes[0].high
    assert per_class_figure([]) is None
