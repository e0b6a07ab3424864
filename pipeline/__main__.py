"""The command line: python -m pipeline compress | train | report | doctor."""

import datetime
import json
import platform
import shlex
import shutil
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from data.index import fingerprint, index
from export import targets
from pipeline import hardware
from pipeline.console import console
from pipeline.page import baseline_of
from pipeline.page import compress as press
from pipeline.recipe import Recipe, load_recipe
from pipeline.stage import Artifact, Stages, locked
from reports.gate import exit_code
from reports.render import render
from reports.rows import missing_requested
from reports.schema import Report

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "nvidia-modelopt", "numpy", "tensorrt", "tensorrt-rtx")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Set = Annotated[list[str], typer.Option("--set", help="section.key=value, any key of the recipe; may be repeated")]


@app.command()
def compress(
    model: str,
    checkpoint: Annotated[Path | None, typer.Option(help=".pt, .pth or .safetensors; none trains a baseline")] = None,
    data: Annotated[str | None, typer.Option(help="fashion-mnist, cifar10 or a folder")] = None,
    target_list: Annotated[str, typer.Option("--targets", help="comma-separated; default: all that work here")] = "",
    max_drop: Annotated[float | None, typer.Option(help="percentage points of top-1")] = None,
    strict: Annotated[bool, typer.Option(help="fail when the verdict is inconclusive")] = False,
    budget: Annotated[str, typer.Option(help="params=10M and / or macs=2G, comma-separated")] = "",
    recipe: Annotated[Path | None, typer.Option(help="TOML file; default: the model's own")] = None,
    out: Path | None = None,
    changes: Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Press MODEL: prune, distil, quantize, build, measure, gate."""
    started = time.perf_counter()
    wanted = [name.strip() for name in target_list.split(",") if name.strip()]
    overrides = parse_changes(changes) | parse_budget(budget)
    given = {"checkpoint": checkpoint, "data.name": data, "gate.max_drop": max_drop, "gate.strict": strict or None}
    overrides |= {key: value for key, value in given.items() if value is not None}
    loaded = load_recipe(model, recipe, overrides, wanted)
    if loaded.checkpoint is not None and not loaded.checkpoint.is_file():
        raise ValueError(f"checkpoint {loaded.checkpoint} does not exist; pass CHECKPOINT=file (.pt, .pth or .safetensors)")
    out = out or Path("runs") / model
    with locked(out):
        step = Stages(out / "stages")
        found = list(press(loaded, step))
        seconds = round(time.perf_counter() - started, 1)
        (out / "run.json").write_text(json.dumps(run_record(model, loaded, wanted, out, step, found, seconds), indent=1))
        report = render(out)
        publish(report, found, out)
    tell(report, out)
    raise typer.Exit(exit_code(report.gate.verdict, report.gate.strict, bool(missing_requested(report))))


@app.command()
def train(
    model: str,
    data: str | None = None,
    recipe: Path | None = None,
    out: Path | None = None,
    changes: Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Train only the FP32 baseline."""
    overrides = parse_changes(changes) | ({"data.name": data} if data else {})
    loaded = load_recipe(model, recipe, overrides, [])
    out = out or Path("runs") / model
    with locked(out):
        step = Stages(out / "stages")
        images = step(index, loaded.data, context=fingerprint(loaded.data))
        baseline = baseline_of(loaded, step, images)
    console.print(f"baseline: {baseline.path}")


@app.command()
def report(out: Path) -> None:
    """Render the report of OUT again from what is on disk."""
    tell(render(out), out)


@app.command()
def doctor() -> None:
    """Which targets work here, and why the others do not."""
    for name in targets.names():
        target = targets.get(name)
        reason = target.unavailable()
        state = f"cannot build: {reason}" if reason else "works"
        if reason is None and (hindrance := target.cannot_run()):
            state = f"builds, cannot run: {hindrance}"
        console.print(f"{name:14} {state}", markup=False)


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """ "prune.pruning_ratio=0.5" -> {"prune.pruning_ratio": 0.5}; values are JSON where they can be, else text."""
    parsed: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set {change!r}: expected section.key=value")
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed


def parse_budget(budget: str) -> dict[str, Any]:
    """ "params=10M,macs=2G" -> the limits that `prune` keeps."""
    parsed: dict[str, Any] = {}
    for part in filter(None, budget.split(",")):
        kind, _, amount = part.strip().partition("=")
        unit = {"K": 1e3, "M": 1e6, "G": 1e9}.get(amount[-1:].upper(), 1.0)
        digits = amount if unit == 1.0 else amount[:-1]
        if kind not in ("params", "macs") or not digits.replace(".", "", 1).isdigit():
            raise ValueError(f"BUDGET {part!r} is not supported; expected params=10M or macs=2G")
        parsed[f"prune.max_{kind}"] = float(digits) * unit
    return parsed


def run_record(
    model: str, recipe: Recipe, wanted: list[str], out: Path, step: Stages, found: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """What the report needs to find everything: see reports/rows.py."""

    def relative(value: Any) -> Any:
        if isinstance(value, Artifact):
            return str(value.path.relative_to(out))
        return {key: relative(v) for key, v in value.items()} if isinstance(value, dict) else value

    networks = {key: relative(found[0][key]) for key in ("baseline", "student")}
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "pipeline", *sys.argv[1:]]),
        "seconds": seconds,
        "model": model,
        "gate": recipe.gate.model_dump(),
        "requested": wanted,
        "environment": environment(recipe),
        "images": relative(step.asked[0]),
        **networks,
        "stages": [{"path": relative(a), "cached": a.manifest["cached"], "name": a.manifest["name"]} for a in step.asked],
        "targets": [{k: relative(v) for k, v in f.items() if k not in networks} for f in found],
    }


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


def publish(report: Report, found: list[dict[str, Any]], out: Path) -> None:
    """Make OUT/bundle/<target> exactly what ships: an engine of an earlier run that this report does not name goes."""
    shipped = {row.target for row in report.rows if row.ships}
    shutil.rmtree(out / "bundle", ignore_errors=True)
    for entry in found:
        if entry["target"] in shipped:
            folder = out / "bundle" / entry["target"]
            shutil.copytree(entry["bundle"].path, folder, ignore=shutil.ignore_patterns("manifest.json"))


def tell(report: Report, out: Path) -> None:
    for note in report.notes:
        console.print(f"· {note}", markup=False)
    console.print(f"gate: [bold]{report.gate.verdict}[/bold] · {out / 'report.html'}")


def main() -> None:
    """Exit codes are the contract's; whatever nobody foresaw keeps its traceback and exits with 70 (EX_SOFTWARE)."""
    try:
        code = app(standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            console.print("interrupted; the same command continues where it stopped")
    except TyperException as error:
        print(f"error: {getattr(error, 'message', error)}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(70)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
