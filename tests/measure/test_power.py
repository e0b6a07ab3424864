"""What a verdict will need in test images is said before training."""

import numpy as np
import pytest

from measure.gate import drop_of
from measure.power import forecast_notes


@pytest.mark.parametrize(
    ("n", "limit", "needed"),
    [
        (100, 1.0, 649), (648, 1.0, 649), (649, 1.0, None), (2000, 0.5, 2288), (10_000, 0.5, None), (100, -1.0, None),
        (50, 10.0, None), (50, None, None),
    ],
)  # fmt: skip
def test_what_the_usual_engine_needs_is_said_before_training(n: int, limit: float | None, needed: int | None) -> None:
    notes = forecast_notes(n, limit)
    assert bool(notes) == (needed is not None)
    if limit is not None and needed is not None:
        points = f"{limit:g} point{'s' * (limit != 1)}"
        assert (
            f"as many gained as lost, needs {needed:,} test images to pass a limit of {points}; {n:,} count here." in notes[0]
        )
        changed = round(needed / 100)
        right = np.arange(needed) >= changed
        assert drop_of(right, np.roll(right, changed), limit).upper_95 == pytest.approx(limit, rel=0.05)
