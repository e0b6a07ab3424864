"""The table of what pruning one part loses: the stage's own numbers, and nothing where the stage did not run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.heat import STRONGEST, heat
from reports.render import render
from reports.schema import Stage

METRICS: dict[str, Any] = {
    "n": 1500,
    "split": "val",
    "importance": "l2",
    "ratios": [0.25, 0.5],
    "unpruned_top1": 90.0,
    "notes": [],
    "parts": [
        {
            "name": "layer1 | <b>",
            "channels": 192,
            "points": [{"kl": 0.02, "top1": 89.0, "macs_saved": 0.05}, {"kl": 0.1, "top1": 85.5, "macs_saved": 0.125}],
        },
        {
            "name": "layer2 residual stream",
            "channels": 128,
            "points": [{"kl": 0.2, "top1": 91.0, "macs_saved": 0.1}, {"kl": 0.4, "top1": 40.0, "macs_saved": 0.25}],
        },
    ],
}


def stage(name: str, metrics: dict[str, Any]) -> Stage:
    return Stage(name=name, seconds=1.0, cached=False, artifact="stages/x", metrics=metrics)


def test_points_are_lost_against_the_unpruned_network_and_colour_is_linear_in_kl() -> None:
    found = heat([stage("train", {}), stage("sensitivity", METRICS)])
    assert found is not None
    (_, _, first), (_, channels, second) = found.rows
    assert [cell.points for cell in first + second] == pytest.approx([1.0, 4.5, -1.0, 50.0])
    assert [cell.heat for cell in first + second] == pytest.approx([STRONGEST * share for share in (0.05, 0.25, 0.5, 1.0)])
    assert channels == 128


def test_there_is_no_table_without_the_stage_or_without_parts() -> None:
    assert heat([stage("train", {"parts": METRICS["parts"]})]) is None
    assert heat([stage("sensitivity", {**METRICS, "parts": []})]) is None


def test_a_network_that_loses_nothing_has_no_colour() -> None:
    parts = [{"name": "a", "channels": 4, "points": [{"kl": 0.0, "top1": 90.0, "macs_saved": 0.1}]}]
    found = heat([stage("sensitivity", {**METRICS, "ratios": [0.5], "parts": parts})])
    assert found is not None and found.rows[0][2][0].heat == 0


def test_both_reports_show_it(make_run: Callable[..., Path]) -> None:
    out = make_run()
    render(out)
    for name in ("report.html", "report.md"):
        assert "Sensitivity to pruning" not in (out / name).read_text()
    prune = out / "stages" / "prune" / "manifest.json"
    prune.write_text(json.dumps({**json.loads(prune.read_text()), "metrics": METRICS, "name": "sensitivity"}))
    run = json.loads((out / "run.json").read_text())
    run["stages"][1]["name"] = "sensitivity"
    (out / "run.json").write_text(json.dumps(run))
    render(out)
    html, md = ((out / name).read_text() for name in ("report.html", "report.md"))
    assert "Sensitivity to pruning" in html and "On 1,500 held-out images" in html
    assert (
        "layer1 | &lt;b&gt;" in html and "+50.00<small>0.400 · 25 %</small>" in html and f"var(--fail) {STRONGEST:.1f}%" in html
    )
    assert "| part | channels | 25 % pruned | 50 % pruned |\n|---|---:|---:|---:|\n| layer1 \\| &lt;b>" in md
    assert "| layer2 residual stream | 128 | \N{MINUS SIGN}1.00 (0.200, 10 %) | +50.00 (0.400, 25 %) |\n" in md
