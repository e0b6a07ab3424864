"""The scatter: where points land, what is on the front, round ticks, labels that do not cover one another."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from reports.axis import decades, rounds
from reports.render import environment
from reports.scatter import LETTER, LINE, PHONE, WIDE, Box, Dot, Point, drawn, meet, scatter

WIDTH, HEIGHT, PLOT = WIDE

LEFT, TOP, RIGHT, BOTTOM = PLOT


def point(label: str, x: float | None, y: float | None, kind: str = "pass") -> Point:
    return Point.model_validate({"label": label, "x": x, "y": y, "kind": kind})


POINTS = [
    point("resnet101 fp32", 8.8, 89.48, "baseline"),
    point("resnet101 int8", 0.38, 89.49),
    point("resnet18 fp32", 0.69, 91.22, "baseline"),
    point("resnet18 int8", 0.29, 91.12),
    point("resnet34 <int8>", 0.1, 80.0, "fail"),
    point("resnet50 int8", 0.5, 91.5),
    point("resnet50 on a GPU", None, None, "unmeasured"),
]


def by_the_template(points: list[Point]) -> ElementTree.Element:
    macro = environment().get_template("scatter.html.j2").module.scatter  # type: ignore[attr-defined]
    return ElementTree.fromstring(f"<div>{macro(drawn(points), 'onnxruntime')}</div>")


def test_only_engines_that_pass_are_on_the_front() -> None:
    drawing = scatter(POINTS)
    assert [dot.label for dot in drawing.dots if dot.on_front] == ["resnet18 int8", "resnet50 int8"]
    ends = [f"{dot.x:.2f},{dot.y:.2f}" for dot in drawing.dots if dot.on_front]
    assert drawing.line == " ".join(ends)
    assert drawing.missing == ["resnet50 on a GPU"] and len(drawing.dots) == 6


def test_quicker_is_left_and_more_accurate_is_up() -> None:
    dots = {dot.label: dot for dot in scatter(POINTS).dots}
    by_x = sorted(dots.values(), key=lambda dot: dot.x)
    assert [dot.label for dot in by_x][:2] == ["resnet34 <int8>", "resnet18 int8"] and by_x[-1].label == "resnet101 fp32"
    by_y = sorted(dots.values(), key=lambda dot: dot.y)
    assert by_y[0].label == "resnet50 int8" and by_y[-1].label == "resnet34 <int8>"


@pytest.mark.parametrize(("slowest", "logarithmic"), [(1.0, False), (10.0, False), (10.1, True), (2000.0, True)])
def test_x_is_logarithmic_above_a_factor_of_ten(slowest: float, logarithmic: bool) -> None:
    drawing = scatter([point("a", 1.0, 90), point("b", slowest**0.5, 90.5), point("c", slowest, 91)])
    assert drawing.logarithmic == logarithmic
    first, middle, last = (dot.x for dot in drawing.dots)
    assert LEFT <= first <= middle <= last <= RIGHT
    if logarithmic:
        assert middle == pytest.approx((first + last) / 2, abs=0.02)
    else:  # from 0
        assert (first - LEFT) * slowest == pytest.approx(last - LEFT, abs=0.02 * slowest)


@pytest.mark.parametrize(("low", "high"), [(89.48, 91.5), (90.0, 90.0), (0, 100), (99.99, 100), (0, 8.8), (12, 12.003)])
def test_ticks_are_round_and_just_enclose_the_values(low: float, high: float) -> None:
    values = rounds(low, high)
    step = values[1] - values[0]
    assert values[0] <= low and high <= values[-1] and 2 <= len(values) <= 6
    assert low - values[0] < step * 1.001 and values[-1] - high < step
    assert re.fullmatch(r"(1|2|25|5)0*", f"{step * 1e6:.0f}")


@pytest.mark.parametrize(("low", "high"), [(0.29, 8.8), (1.0, 100.0), (0.1, 2000.0), (0.001, 0.02), (3, 3000)])
def test_logarithmic_ticks_are_1_2_5(low: float, high: float) -> None:
    values = decades(low, high)
    assert values[0] <= low < values[1] and values[-2] < high <= values[-1]
    assert all(f"{value:e}"[0] in "125" and f"{value:.6e}"[2:8] == "000000" for value in values)
    assert all(1.99 < b / a < 2.51 for a, b in pairwise(values))


def box_of(dot: Dot) -> Box:
    wide = LETTER * len(dot.label)
    assert dot.anchor is not None
    start = dot.label_x - {"start": 0.0, "middle": wide / 2, "end": wide}[dot.anchor]
    return (start, dot.label_y - LINE + 4, start + wide, dot.label_y + 3)


def test_labels_cover_neither_dots_nor_one_another_nor_leave_the_drawing() -> None:
    crowd = [point(f"resnet{i} int8", 1 + 0.03 * (i % 4), 90 + 0.02 * i) for i in range(12)]
    drawing = scatter([*crowd, point("far", 9, 80)])
    boxes = [box_of(dot) for dot in drawing.dots if dot.anchor]
    assert len(boxes) >= 4
    assert not any(meet(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(meet(box, (d.x - 5, d.y - 5, d.x + 5, d.y + 5)) for box in boxes for d in drawing.dots)
    assert all(box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT for box in boxes)


@pytest.mark.parametrize("which", [0, 1], ids=["wide", "phone"])
def test_the_template_draws_every_dot_and_escapes_names(which: int) -> None:
    drawing = scatter(POINTS, (WIDE, PHONE)[which])
    root = by_the_template(POINTS)
    svg = root[which]
    assert svg.get("viewBox") == f"0 0 {drawing.size.width} {drawing.size.height}"
    circles = [c for c in svg.iter("circle")]
    assert [c.get("class") for c in circles] == [f"dot-{p.kind}" for p in POINTS if p.x is not None]
    assert [(c.get("cx"), c.get("cy")) for c in circles] == [(str(d.x), str(d.y)) for d in drawing.dots]
    titles = [title.text for title in svg.iter("title")]
    assert "resnet34 <int8>: 0.1 ms, 80.00 %" in titles
    assert [line.get("points") for line in svg.iter("polyline")] == [drawing.line]
    shown = "".join(root.itertext())
    assert "p50, ms (logarithmic)" in shown and "not drawn, because not measured: resnet50 on a GPU" in shown


def test_nothing_measured_is_an_empty_drawing() -> None:
    points = [point("a", None, 90), point("b", 1, None)]
    drawing = scatter(points)
    assert drawing.dots == [] and drawing.line == "" and drawing.missing == ["a", "b"]
    assert not list(by_the_template(points).iter("circle"))


def test_intervals_are_drawn_around_their_dot() -> None:
    one = Point(label="int8", x=2.0, y=90.0, kind="pass", x_range=(1.5, 3.0), y_range=(89.0, 90.5))
    (dot, _) = scatter([one, point("baseline", 4.0, 91.0)]).dots
    assert dot.across is not None and dot.across[0] < dot.x < dot.across[1]
    assert dot.down is not None and dot.down[0] > dot.y > dot.down[1], "the lower limit is further down"
    lines = [line for line in by_the_template([one])[0].iter("line") if "range" in (line.get("class") or "")]
    assert len(lines) == 2 and dot.title == "int8: 2 ms (1.5 to 3), 90.00 % (89.00 to 90.50)"


def test_one_point_is_drawn_inside() -> None:
    (dot,) = scatter([point("alone", 1.0, 90.0)]).dots
    assert LEFT < dot.x <= RIGHT and TOP <= dot.y <= BOTTOM and dot.on_front
