"""What the tables of the benchmark say about rows with known answers and times."""

import numpy as np
import pytest

from benchmarks.table import OURS, better, cells, columns, goal, markdown, with_section
from benchmarks.turns import TURNS, Row, difference, ratios


def row(name: str, milliseconds: list[float], right: int | None = None, n: int = 1000) -> Row:
    """A row whose turns took so long, right about the first `right` of `n` images."""
    answers = None if right is None else np.arange(n) < right
    return Row(
        name, run=lambda x: x, right=answers, turns=[[ms / 1000] * 3 for ms in milliseconds], int8_share=1.0, seconds=2.0
    )


def test_ratios_are_taken_turn_by_turn() -> None:
    ours, other = row(OURS, [1.0, 2.0, 4.0]), row("other", [2.0, 2.0, 2.0])
    assert ratios(other, ours).tolist() == pytest.approx([2.0, 1.0, 0.5])
    assert other.p50 == pytest.approx(2.0)


def test_a_difference_counts_lost_and_gained_images_and_its_interval_holds_it() -> None:
    ours, other = row(OURS, [1.0], right=900), row("other", [1.0], right=900)
    assert other.right is not None
    other.right = np.roll(other.right, 30)  # right about 30 others, wrong about 30 of ours
    lost, gained, points, low, high = difference(other, ours)
    assert (lost, gained, points) == (30, 30, 0.0)
    assert low == pytest.approx(-high) and 0 < high < 3


@pytest.mark.parametrize(("faster_turns", "named"), [(8, False), (9, True)])
def test_faster_means_in_nine_of_ten_turns(faster_turns: int, named: bool) -> None:
    ours = row(OURS, [1.0] * TURNS)
    other = row("other", [0.9] * faster_turns + [1.1] * (TURNS - faster_turns))
    assert bool(better([ours, other])) == named


def test_more_accurate_means_that_the_interval_excludes_nothing_gained() -> None:
    ours = row(OURS, [1.0] * TURNS, right=900)
    slightly, clearly, worse = (row(name, [2.0] * TURNS, right=right) for name, right in (("a", 902), ("b", 920), ("c", 700)))
    (sentence,) = better([ours, slightly, clearly, worse])
    assert sentence.startswith("b is more accurate: +2.00 points")


def test_a_failed_tool_has_a_row_that_says_why_and_is_not_compared() -> None:
    rows = [row("FP32", [3.0] * TURNS, right=900), row(OURS, [1.0] * TURNS, right=900), Row("broken", why="no | memory")]
    assert {len(texts) for texts in cells(rows)} == {len(columns(rows))}
    text = "\n".join(markdown("onnxruntime", rows, []))
    assert "| broken | no / memory |" in text and f"Clearly better than {OURS}: none." in text
    assert "3.000 (3.000 … 3.000)" in text


def test_a_file_that_is_placed_for_another_runtime_is_marked_and_its_time_is_not_compared() -> None:
    rows = [row("FP32", [3.0] * TURNS), row(OURS, [1.0] * TURNS), row("modelopt.onnx", [9.0] * TURNS)]
    rows[2].placed_for = "TensorRT"
    place = columns(rows).index(f"p50 / {OURS}")
    assert [texts[place] for texts in cells(rows)] == ["3.000 (3.000 … 3.000)", "1", "placed for TensorRT"]


def test_without_accuracy_there_are_no_columns_for_it() -> None:
    rows = [row("FP32", [3.0] * TURNS), row(OURS, [1.0] * TURNS)]
    assert not [name for name in columns(rows) if "top-1" in name]
    assert {len(texts) for texts in cells(rows)} == {len(columns(rows))}


def test_the_goal_is_about_speed_and_integers() -> None:
    rows = [row("FP32", [3.0] * TURNS), row(OURS, [1.0] * TURNS)]
    assert goal(rows, 2.7).endswith("met.") and goal(rows, 3.2).endswith("missed.")
    rows[1].int8_share = 0.9
    assert goal(rows, 2.7).endswith("missed.")


def test_a_section_replaces_the_one_of_the_same_network_and_leaves_the_others() -> None:
    text = with_section("", "a, 32x32", ["first"])
    text = with_section(text, "b, 32x32", ["### onnxruntime", "", "second"])
    again = with_section(text, "a, 32x32", ["third"])
    assert "first" not in again and again.index("third") < again.index("### onnxruntime") < again.index("second")
    assert with_section(again, "a, 32x32", ["third"]) == again and again.count("# Engines of other tools") == 1
