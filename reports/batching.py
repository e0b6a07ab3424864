"""The largest batch that an engine runs within a latency limit, and a note if even its smallest batch takes longer."""

from collections.abc import Iterator, Sequence

from reports.schema import BatchAtLimit, Row, Throughput


def batch_at_limit(points: Sequence[Throughput], limit_ms: float | None) -> BatchAtLimit | None:
    """The largest of the measured batches of which 90 % of the calls took at most `limit_ms`; None if there is none.

    The 90th percentile, as MLPerf uses for single streams. The longest call does not count, because it depends on the operating
    system and on the number of calls.
    """
    within = [point for point in points if limit_ms and point.p90_ms is not None and point.p90_ms <= limit_ms]
    if not within or limit_ms is None:
        return None
    best = max(within, key=lambda point: point.batch)
    assert best.p90_ms is not None
    return BatchAtLimit(limit_ms=limit_ms, batch=best.batch, p90_ms=best.p90_ms, images_per_s=best.images_per_s)


def unmet(rows: list[Row], limit_ms: float | None) -> Iterator[str]:
    """At most one note per target: the engines that exceed the limit with every batch."""
    for target in dict.fromkeys(row.target for row in rows if limit_ms):
        late = [
            f"{row.id} (batch {row.throughput[0].batch}: {row.throughput[0].p90_ms:.2f} ms)"
            for row in rows
            if row.target == target and row.throughput and row.throughput[0].p90_ms and row.batch_at_limit is None
        ]
        if late:
            yield (
                f"Every measured batch exceeds the latency limit of {limit_ms:g} ms (p90) on {target} with {', '.join(late)}."
            )
