"""One network through the page: what it leaves in OUT besides the stages (run.json, the reports, bundle/)."""

import datetime
import json
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core import hardware
from core.cache import Artifact, Stages, locked
from export.triton import serves, triton
from pipeline.page import compress
from pipeline.recipe import Recipe
from reports.render import render
from reports.schema import Report

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "nvidia-modelopt", "numpy", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Run:
    """A finished run: its report, and by target what the page yielded."""

    report: Report
    targets: dict[str, dict[str, Any]]


def run(model: str, recipe: Recipe, wanted: list[str], out: Path, sweep: Mapping[str, Recipe] | None = None) -> Run:
    """Press `model` into the folder `out`, or go on where that stopped; `wanted` are the targets the user named.

    `sweep` is the page's: recipes by label, a student each.
    Raises ValueError for whatever the page refuses, and when another run is writing to `out`.
    """
    started = time.perf_counter()
    with locked(out):
        step = Stages(out / "stages")
        found = list(compress(recipe, step, sweep))
        seconds = round(time.perf_counter() - started, 1)
        (out / "run.json").write_text(json.dumps(run_record(model, recipe, wanted, out, step, found, seconds), indent=1))
        report = render(out)
        publish(report, recipe, found, out)
    return Run(report, {entry["target"]: entry for entry in found})


def run_record(
    model: str, recipe: Recipe, wanted: list[str], out: Path, step: Stages, found: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """What the report needs to find everything: see reports/rows.py."""

    def relative(value: Any) -> Any:
        if isinstance(value, Artifact):
            return str(value.path.relative_to(out))
        return {key: relative(v) for key, v in value.items()} if isinstance(value, dict) else value

    shared = {key: relative(found[0][key]) for key in ("images", "baseline", "students")}
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(),
        "seconds": seconds,
        "model": model,
        "gate": recipe.gate.model_dump(),
        "latency_limit": recipe.latency_limit,
        "requested": wanted,
        "environment": environment(recipe),
        **shared,
        "stages": [{"path": relative(a), "cached": a.manifest["cached"], "name": a.manifest["name"]} for a in step.asked],
        "targets": [{k: relative(v) for k, v in f.items() if k not in shared} for f in found],
    }


def command() -> str:
    """What the user typed."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])


def environment(recipe: Recipe) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    threads = recipe.measure.threads or hardware.cores()
    return {
        **hardware.cpu(),
        "threads": threads,
        "gpu": (hardware.gpu() or {}).get("name"),
        "os": platform.platform(),
        "versions": versions,
    }


def publish(report: Report, recipe: Recipe, found: list[dict[str, Any]], out: Path) -> None:
    """Make OUT/bundle exactly what ships: an engine of an earlier run that this report does not name goes."""
    shipped = {row.target for row in report.rows if row.ships}
    shutil.rmtree(out / "bundle", ignore_errors=True)
    for entry in found:
        if entry["target"] in shipped:
            folder = out / "bundle" / entry["target"]
            shutil.copytree(entry["bundle"].path, folder, ignore=shutil.ignore_patterns("manifest.json"))
            if serves(entry["target"]) and "candidate" in entry:
                triton(recipe.triton, out / "bundle" / "triton", engine=entry["engines"][entry["candidate"]].path,
                       images=entry["images"].path, target=entry["target"],
                       name=f"{report.model.replace('/', '.')}-{entry['target']}")  # fmt: skip
