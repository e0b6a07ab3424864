"""Numbers with their units as text. None becomes an en dash, never a number."""

import re
from collections.abc import Callable
from typing import Any

DASH = "\N{EN DASH}"


def fixed(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    """Percentage points lost; a gain is negative."""
    return DASH if value is None else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float | None) -> str:
    """A share between 0 and 1. Rounded down, so that 100 % means all of it."""
    return DASH if value is None else f"{int(1000 * value + 1e-9) / 10:g} %"


def milliseconds(value: float | None) -> str:
    return DASH if value is None else f"{value:,.{2 if value < 100 else 0}f} ms"


def megabytes(value: float | None) -> str:
    """MB of a million bytes."""
    return DASH if value is None else f"{value / 1e6:,.2f} MB"


def scaled(value: float | None) -> str:
    """Parameters and MACs."""
    if value is None:
        return DASH
    size, unit = next(((s, u) for s, u in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= s), (1, ""))
    return f"{value / size:.2f}{unit}" if unit else f"{value:.0f}"


def times(value: float | None) -> str:
    return DASH if value is None else f"{value:.{1 if value >= 10 else 2}f}\N{MULTIPLICATION SIGN}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(value: object) -> str:
    """A value of the environment, which may be a list or absent."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else DASH if value is None else str(value)


def cell(value: object) -> str:
    """Text inside a Markdown table or line: no column, no second line and no tag of its own."""
    line = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(str(value).splitlines()))
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def code(value: object) -> str:
    """Text as Markdown code in one line; longer backticks around it than it has inside."""
    line = " ".join(str(value).splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


FILTERS: dict[str, Callable[..., Any]] = {
    "fixed": fixed,
    "signed": signed,
    "percent": percent,
    "ms": milliseconds,
    "mb": megabytes,
    "scaled": scaled,
    "times": times,
    "duration": duration,
    "listed": listed,
    "cell": cell,
    "code": code,
}
