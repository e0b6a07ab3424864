"""Which batch stays within a latency limit, and the note if none does."""

import pytest

from reports.batching import batch_at_limit, notes_of
from reports.schema import Row, Throughput


def point(batch: int, p90_ms: float, n: int | None = 20) -> Throughput:
    return Throughput(batch=batch, images_per_s=1000 * batch / p90_ms, ms=0.9 * p90_ms, p90_ms=p90_ms, n=n)


CURVE = [point(1, 2.0), point(2, 3.0), point(4, 5.0), point(8, 10.0)]


def row(key: str, points: list[Throughput], limit: float) -> Row:
    return Row(
        id=f"{key}/onnxruntime", network="student", precision="int8", target="onnxruntime", status="measured",
        throughput=points, batch_at_limit=batch_at_limit(points, limit),
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "batch"), [(2.0, 1), (4.9, 2), (5.0, 4), (1000.0, 8)])
def test_the_largest_batch_within_the_limit(limit: float, batch: int) -> None:
    best = batch_at_limit(CURVE, limit)
    assert best is not None
    expected = next(one for one in CURVE if one.batch == batch)
    assert (best.limit_ms, best.batch, best.images_per_s) == (limit, batch, expected.images_per_s)


def test_a_smaller_batch_that_happened_to_be_slow_does_not_hide_a_larger_one() -> None:
    found = batch_at_limit([point(1, 2.0), point(2, 9.0), point(4, 5.0)], 6.0)
    assert found is not None and found.batch == 4


@pytest.mark.parametrize(("points", "limit"), [([], 1.9), (CURVE, 1.9), (CURVE, None)])
def test_none_is_none(points: list[Throughput], limit: float | None) -> None:
    assert batch_at_limit(points, limit) is None


def test_engines_that_no_batch_brings_within_the_limit_are_named_once() -> None:
    curves = {"baseline-fp32": [point(1, 20.0)], "student-int8": CURVE, "student-fp32": [point(2, 12.5)]}
    (note,) = notes_of([row(key, points, 4.0) for key, points in curves.items()], 4.0)
    assert "limit of 4 ms (p90) on onnxruntime" in note and "student-int8" not in note
    assert "baseline-fp32/onnxruntime (batch 1: 20.00 ms)" in note and "student-fp32/onnxruntime (batch 2: 12.50 ms)" in note


def test_there_is_no_note_if_all_meet_the_limit_or_there_is_none() -> None:
    assert not list(notes_of([row("student-int8", CURVE, 4.0)], 4.0))
    assert not list(notes_of([row("student-int8", CURVE, 0.1)], None))


@pytest.mark.parametrize("n", [1, 19, None])
def test_a_batch_with_too_few_timed_calls_is_not_called_within_the_limit(n: int | None) -> None:
    points = [point(1, 100.0, 20), point(2, 150.0, n), point(4, 900.0, 1)]
    found = batch_at_limit(points, 200.0)
    assert found is not None and found.batch == 1
    (note,) = notes_of([row("student-int8", points, 200.0)], 200.0)
    assert f"student-int8/onnxruntime (batch 2: {n} calls); expected 20." in note
    assert note.endswith("Pass --set measure.longest=4 (seconds).")


def test_no_engine_with_too_few_calls_is_said_to_exceed_the_limit() -> None:
    (note,) = notes_of([row("student-int8", [point(1, 150.0, 4)], 200.0)], 200.0)
    assert "Too few calls" in note


def test_a_larger_batch_with_enough_calls_needs_no_note() -> None:
    assert not list(notes_of([row("student-int8", [point(1, 100.0, 3), point(2, 150.0, 20)], 200.0)], 200.0))
