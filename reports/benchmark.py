"""A report -> benchmark.json, in the form "customSmallerIsBetter" of github-action-benchmark, which draws values over commits.

For each target the engine that ships and the FP32 baseline: p50, size, and the drop of the engine that ships. Only measured
values. A name is the same in every run of a network, whichever engine ships; `extra` names the engine.
"""

import json
from typing import Any

from reports import numbers
from reports.schema import Report, Row
from reports.summary import baseline_of, drop_text


def benchmark(report: Report) -> str:
    """The whole file: a list of {name, unit, value, range, extra}."""
    values: list[dict[str, Any]] = []
    for row in report.rows:
        if row.ships:
            baseline = baseline_of(report, row.on)
            values += [*values_of(row, "ships", report), *(values_of(baseline, "baseline", report) if baseline else [])]
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def values_of(row: Row, role: str, report: Report) -> list[dict[str, Any]]:
    start, latency, drop = f"{report.model} {row.on} {role}", row.latency_ms, row.drop
    lost = "different predictions" if report.gate.metric == "agreement" else "top-1 drop"
    values: list[dict[str, Any]] = []
    if latency:
        timed = f"batch {latency.batch}, {latency.threads} threads, n={latency.n:,}"
        extra = f"{row.id}, {timed}, {report.environment.cpu}"
        span = f"p90 {numbers.fixed(latency.p90)}"
        values.append({"name": f"{start}: p50", "unit": "ms", "value": latency.p50, "range": span, "extra": extra})
    if row.size_bytes is not None:
        extra = f"{row.id}, SHA-256 {row.sha256}"
        values.append({"name": f"{start}: size", "unit": "bytes", "value": row.size_bytes, "extra": extra})
    if drop:
        span = drop_text(drop).split(" ", 1)[1]
        extra = f"{row.id}, {drop.n:,} images, one-sided 95 % limits, against FP32 on the same target"
        values.append({"name": f"{start}: {lost}", "unit": "points", "value": drop.points, "range": span, "extra": extra})
    return values
