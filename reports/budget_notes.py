"""Whether the engines that ship meet the BUDGET that their widths were searched for. They were measured like all others."""

from collections.abc import Iterator

from reports.schema import Row, Stage

# {a limit's key before "@": (the word of BUDGET, the verb, above the limit, below the limit)}
WORDS = {
    "params": ("params", "has", "too many", "fewer"),
    "macs": ("macs", "has", "too many", "fewer"),
    "size": ("size", "has", "too large", "smaller"),
    "latency": ("latency", "takes", "too slow", "faster"),
    "share": ("speedup", "reaches", "too slow", "faster"),
}


def budget_notes(stages: list[Stage], rows: list[Row]) -> Iterator[str]:
    """One note for every limit and every engine that ships and that the limit applies to."""
    for stage in stages:
        limits = stage.metrics.get("limits", {}) if stage.name.split()[0] == "search" else {}
        variant = stage.name.partition(" ")[2] or None
        for key, most in limits.items():
            kind, _, target = key.partition("@")
            for row in rows:
                if row.ships and row.variant == variant and target in ("", row.on):
                    yield from note_of(kind, most, target, row)


def note_of(kind: str, most: float, target: str, row: Row) -> Iterator[str]:
    value = value_of(kind, row)
    if value is None:
        return
    word, verb, above, below = WORDS[kind]
    at = f"@{target}" if target else ""
    goal, unit = ("target", "x") if kind == "share" else ("limit", "")
    difference = f"{100 * abs(value / most - 1):.1f} % {above if value > most else below}"
    yield (
        f"BUDGET {word}={amount(kind, most)}{at}: {row.id}, which ships, {verb} {amount(kind, value)}{unit}; "
        f"{goal} {amount(kind, most)}{unit} {'met' if value <= most else 'not met'} ({difference})."
    )


def value_of(kind: str, row: Row) -> float | None:
    if kind == "latency":
        return row.latency_ms.p50 if row.latency_ms else None
    if kind == "share":
        return 1 / row.speedup if row.speedup else None
    return {"params": row.params, "macs": row.macs, "size": row.size_bytes}[kind]


def amount(kind: str, value: float) -> str:
    units = {"latency": f"{value:.3g}ms", "size": f"{value / 1e6:.3g}MB", "share": f"{1 / value:.3g}"}
    return units.get(kind, f"{value:,.0f}")
