"""The Pareto front: of many trades of cost against value, those that nothing beats."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, value) that no other beats, in order of cost.

    One point beats another when it costs no more, is worth no less, and one of the two strictly. Equal points both stay.
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1] or points[i] == points[found[-1]]:
            found.append(i)
    return found
