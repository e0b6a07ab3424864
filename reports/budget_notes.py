"""What the engines that ship take of the budget that their widths were searched for, fine-tuned and measured like any other."""

from collections.abc import Iterator

from reports.schema import Row, Stage

# a limit's key before "@" -> the word of BUDGET
WORDS = {"params": "params", "macs": "macs", "size": "size", "latency": "latency", "share": "speedup"}


def budget_notes(stages: list[Stage], rows: list[Row]) -> Iterator[str]:
    """One for every limit and engine that ships and that it is about."""
    for stage in stages:
        limits = stage.metrics.get("limits", {}) if stage.name.split()[0] == "search" else {}
        variant = stage.name.partition(" ")[2] or None
        for key, most in limits.items():
            kind, _, target = key.partition("@")
            for row in rows:
                if row.ships and row.variant == variant and target in ("", row.target):
                    yield from told(kind, most, target, row)


def told(kind: str, most: float, target: str, row: Row) -> Iterator[str]:
    value = taken(kind, row)
    if value is None:
        return
    limit, has = amount(kind, most), amount(kind, value)
    at = f"@{target}" if target else ""
    share = 100 * (value / most - 1)
    verdict = "met" if value <= most else "missed"
    yield (
        f"BUDGET {WORDS[kind]}={limit}{at}: {row.id}, which ships, has {has}; {verdict}, {abs(share):.1f} % "
        f"{'above' if share > 0 else 'below'} the limit{' in time' if kind == 'share' else ''}."
    )


def taken(kind: str, row: Row) -> float | None:
    if kind == "latency":
        return row.latency_ms.p50 if row.latency_ms else None
    if kind == "share":
        return 1 / row.speedup if row.speedup else None
    return {"params": row.params, "macs": row.macs, "size": row.size_bytes}[kind]


def amount(kind: str, value: float) -> str:
    units = {"latency": f"{value:.3g}ms", "size": f"{value / 1e6:.3g}MB", "share": f"{1 / value:.3g}"}
    return units.get(kind, f"{value:,.0f}")
