"""Manifests of stages -> date, machine and versions of each stage, and notes if they differ from those of this run."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from core.text import joined
from reports.numbers import listed
from reports.schema import Environment, Stage

MEASURING = ("predict", "latency")
NAMED = 3  # stages in one note


def provenance_of(manifest: dict[str, Any], environment: Environment) -> dict[str, Any]:
    """The fields `created`, `machine` and `versions` of a `Stage`; manifests of older versions have none of them."""
    return {
        "created": manifest.get("created"),
        "machine": differing(manifest.get("machine", {}), environment.model_dump()),
        "versions": differing(manifest.get("versions", {}), environment.versions),
    }


def differing(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in then.items() if value != now.get(name)}


def provenance_notes(stages: list[Stage], created: str, environment: Environment) -> Iterator[str]:
    """One note for all measurements of the same day, machine and versions, if these differ from those of this run.

    `created` and `environment` are those of the run; `created` is its end. Stages that were executed in this run need no note.
    """
    present = environment.model_dump() | environment.versions
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for stage in stages:
        if not (stage.cached and stage.created and stage.name.split()[0] in MEASURING):
            continue
        then = stage.machine | stage.versions
        now = {name: present.get(name) for name in then}
        if then or stage.created[:10] != created[:10]:
            alike[stage.created[:10], described(then), described(now)].append(stage.name)
    for (day, then_had, now_has), names in alike.items():
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        what = f"{joined(names[:NAMED] + more)} {'was' if len(names) == 1 else 'were'} measured on {day}"
        yield f"{what} with {then_had}; this run has {now_has}." if then_had else f"{what}; this run ended on {created[:10]}."


def described(values: dict[str, Any]) -> str:
    return joined([f"no {name}" if value is None else f"{name} {listed(value)}" for name, value in values.items()])
