"""The front against its definition, on points with ties."""

import random

import pytest

from reports.front import front

Pair = tuple[float, float]


def beats(a: Pair, b: Pair) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def brute(points: list[Pair]) -> set[int]:
    return {i for i, point in enumerate(points) if not any(beats(other, point) for other in points)}


@pytest.mark.parametrize("seed", range(200))
def test_the_front_is_what_no_point_beats_in_order_of_cost(seed: int) -> None:
    draw = random.Random(seed)
    points = [(float(draw.randint(0, 6)), float(draw.randint(0, 6))) for _ in range(draw.randint(0, 12))]
    found = front(points)
    assert set(found) == brute(points) and len(set(found)) == len(found)
    assert [points[i] for i in found] == sorted(points[i] for i in found)


def test_equal_points_both_stay_and_equal_values_do_not() -> None:
    assert front([(2, 90), (1, 90), (1, 90), (3, 91), (1, 89)]) == [1, 2, 3]
    assert front([]) == []
