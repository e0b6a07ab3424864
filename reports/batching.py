"""The largest batch that an engine runs within a latency limit, and notes where none was or where it cannot be known."""

from collections.abc import Iterator, Sequence

from reports.schema import BatchAtLimit, Row, Throughput

CALLS = 20  # timed calls that a 90th percentile needs: it is then the third largest of the times


def batch_at_limit(points: Sequence[Throughput], limit_ms: float | None) -> BatchAtLimit | None:
    """The largest of the measured batches of which 90 % of the calls took at most `limit_ms`; None if there is none.

    The 90th percentile, as MLPerf uses for single streams. The longest call does not count, because it depends on the operating
    system and on the number of calls. Batches with fewer than CALLS timed calls do not count.
    """
    known = [point for point in within(points, limit_ms) if enough(point)]
    if not known or limit_ms is None:
        return None
    best = max(known, key=lambda point: point.batch)
    assert best.p90_ms is not None
    return BatchAtLimit(limit_ms=limit_ms, batch=best.batch, p90_ms=best.p90_ms, images_per_s=best.images_per_s)


def within(points: Sequence[Throughput], limit_ms: float | None) -> list[Throughput]:
    return [point for point in points if limit_ms and point.p90_ms is not None and point.p90_ms <= limit_ms]


def enough(point: Throughput) -> bool:
    return point.n is not None and point.n >= CALLS


def notes_of(rows: list[Row], limit_ms: float | None) -> Iterator[str]:
    """At most two notes per target: the engines that exceed the limit with every batch, and those that may run larger batches
    than the report says."""
    if limit_ms is None:
        return
    for target in dict.fromkeys(row.on for row in rows):
        late = [
            f"{row.id} (batch {row.throughput[0].batch}: {row.throughput[0].p90_ms:.2f} ms)"
            for row in rows
            if row.on == target and row.throughput and row.throughput[0].p90_ms and not within(row.throughput, limit_ms)
        ]
        if late:
            yield (
                f"Every measured batch exceeds the latency limit of {limit_ms:g} ms (p90) on {target} with {', '.join(late)}."
            )
        if few := [text for row in rows if row.on == target and (text := uncertain(row, limit_ms))]:
            yield (
                f"Too few calls were timed on {target} to say whether 90 % of them meet the latency limit of {limit_ms:g} ms: "
                f"{', '.join(few)}; expected {CALLS}. Pass --set measure.longest={limit_ms * CALLS / 1000:.3g} (seconds)."
            )


def uncertain(row: Row, limit_ms: float | None) -> str | None:
    """The largest batch of the engine that seems to be within the limit, if it had too few calls and is not named for that."""
    largest = max(within(row.throughput, limit_ms), key=lambda point: point.batch, default=None)
    if largest is None or enough(largest):
        return None
    return f"{row.id} (batch {largest.batch}: {largest.n} calls)"
