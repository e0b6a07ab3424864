"""Numbers that an earlier run measured: report.json says when and where, and all three reports show a note."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.render import render

MakeRun = Callable[..., Path]
TODAY = "2025-11-22"  # of the run that make_run writes
HERE = {"cpu": "Example CPU", "cores": 4, "isa": "avx512_vnni", "gpu": None, "os": "Linux"}
VERSIONS = {"python": "3.11.2", "onnxruntime": "1.23.0"}


def list_stages(out: Path, names: dict[str, bool], **changes: Any) -> Path:
    """Put stages of these names (and whether each was cached) into the run, with `changes` in their manifests."""
    run = json.loads((out / "run.json").read_text())
    for name, cached in names.items():
        folder = out / "stages" / name.replace("/", "-")
        folder.mkdir()
        manifest = {"metrics": {}, "seconds": 1.0, "created": f"{TODAY}T03:00:00+00:00", "machine": HERE, "versions": VERSIONS}
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))
        run["stages"].append({"path": f"stages/{folder.name}", "cached": cached, "name": name})
    (out / "run.json").write_text(json.dumps(run))
    return out


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, None),
        (
            {"created": "2025-11-20T23:00:00+00:00"},
            f"latency onnxruntime was measured on 2025-11-20; this run ended on {TODAY}.",
        ),
        (
            {"created": "2025-11-20T23:00:00+00:00", "versions": {**VERSIONS, "onnxruntime": "1.22.0"}},
            "latency onnxruntime was measured on 2025-11-20 with onnxruntime 1.22.0; this run has onnxruntime 1.23.0.",
        ),
        (
            {"machine": {**HERE, "cpu": "Other CPU", "cores": 2}},
            f"latency onnxruntime was measured on {TODAY} with cpu Other CPU and cores 2; this run has cpu Example CPU and "
            "cores 4.",
        ),
        (
            {"machine": {**HERE, "gpu": "A100"}, "versions": {**VERSIONS, "tensorrt": "10.3"}},
            f"latency onnxruntime was measured on {TODAY} with gpu A100 and tensorrt 10.3; this run has no gpu and no "
            "tensorrt.",
        ),
    ],
)
def test_a_measurement_of_another_day_machine_or_version_has_a_note(
    make_run: MakeRun, changes: dict[str, Any], note: str | None
) -> None:
    out = list_stages(make_run(), {"latency onnxruntime": True}, **changes)
    report = render(out)
    found = [line for line in report.notes if "measured on" in line]
    assert found == ([note] if note else [])
    for name in ("report.md", "report.html"):
        text = (out / name).read_text()
        assert note in text if note else "was measured on" not in text


def test_report_json_has_date_and_differences_of_every_stage(make_run: MakeRun) -> None:
    changes = {
        "created": "2025-11-20T23:00:00+00:00",
        "versions": {**VERSIONS, "torch": "2.8"},
        "machine": {**HERE, "cores": 8},
    }
    out = list_stages(make_run(), {"distill": True}, **changes)
    render(out)
    *others, stage = json.loads((out / "report.json").read_text())["stages"]
    assert (stage["created"], stage["machine"], stage["versions"]) == (changes["created"], {"cores": 8}, {"torch": "2.8"})
    assert all((other["created"], other["machine"], other["versions"]) == (None, {}, {}) for other in others)  # older manifests


def test_stages_that_measure_nothing_or_ran_in_this_run_have_no_note(make_run: MakeRun) -> None:
    names = {"distill": True, "build student-int8/onnxruntime": True, "predict student-int8/onnxruntime": False}
    report = render(list_stages(make_run(), names, created="2025-11-20T23:00:00+00:00"))
    assert not [line for line in report.notes if "measured on" in line]


def test_measurements_of_one_day_share_a_note(make_run: MakeRun) -> None:
    names = {f"predict {row}/onnxruntime": True for row in ("a", "b", "c", "d", "e")}
    report = render(list_stages(make_run(), names, created="2025-11-20T23:00:00+00:00"))
    assert [line for line in report.notes if "measured on" in line] == [
        "predict a/onnxruntime, predict b/onnxruntime, predict c/onnxruntime and 2 more were measured on 2025-11-20; "
        f"this run ended on {TODAY}."
    ]
