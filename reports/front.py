"""The Pareto front: the points of cost and value that no other point beats."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, value) that no other beats, in order of cost.

    A point beats another if its cost is not higher, its value is not lower, and one of the two is strictly better. Of equal
    points, all are kept.
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1] or points[i] == points[found[-1]]:
            found.append(i)
    return found
