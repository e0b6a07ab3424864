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

from export import targets
from export.triton import serves, triton
from pipeline import hardware, options
from pipeline.console import console
from pipeline.page import compress as press
from pipeline.page import learn
from pipeline.recipe import Recipe, load_recipe
from pipeline.stage import Artifact, Stages, locked
from reports.gate import exit_code
from reports.render import render
from reports.rows import missing_requested
from reports.schema import Report

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "nvidia-modelopt", "numpy", "openvino", "tensorrt", "tensorrt-rtx")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def compress(
    model: str,
    checkpoint: options.Checkpoint = None,
    data: options.DataName = None,
    target_list: Annotated[str, typer.Option("--targets", help="comma-separated; default: all that work here")] = "",
    max_drop: Annotated[float | None, typer.Option(help="percentage points of top-1")] = None,
    strict: Annotated[bool, typer.Option(help="fail when the verdict is inconclusive")] = False,
    budget: Annotated[str, typer.Option(help="params=10M,macs=2G,size=8MB,latency=4ms@target,speedup=10@target")] = "",
    sweep: Annotated[str, typer.Option(help="pruning ratios or budgets to try, 0.3,0.5,0.7; the best that passes ships")] = "",
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="without: only quantize, in minutes")] = True,
    expect_top1: Annotated[float | None, typer.Option(help="percent the checkpoint should have; far below it, stop")] = None,
    minutes: Annotated[float | None, typer.Option(help="of distillation, instead of epochs")] = None,
    latency_limit: Annotated[float | None, typer.Option(help="ms; the report names the largest batch within it")] = None,
    input_size: options.InputSize = None,
    resize: options.Resize = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; default: the model's own")] = None,
    out: Path | None = None,
    changes: options.Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Press MODEL: prune, distil, quantize, build, measure, gate."""
    started = time.perf_counter()
    wanted = [name.strip() for name in target_list.split(",") if name.strip()]
    overrides = options.changes_of(changes) | options.limits_of(budget)
    overrides |= options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels)
    overrides |= options.given(
        checkpoint=checkpoint, data__name=data, gate__max_drop=max_drop, gate__strict=strict or None,
        finetune=None if finetune else False, expect__top1=expect_top1, latency_limit=latency_limit, distill__minutes=minutes,
    )  # fmt: skip
    loaded = load_recipe(model, recipe, overrides, wanted)
    tried = options.sweep_of(sweep, overrides)
    variants = {label: load_recipe(model, recipe, overrides | changed, wanted) for label, changed in tried.items()}
    out = out or default_out(model)
    with locked(out):
        step = Stages(out / "stages")
        found = list(press(loaded, step, variants))
        seconds = round(time.perf_counter() - started, 1)
        (out / "run.json").write_text(json.dumps(run_record(model, loaded, wanted, out, step, found, seconds), indent=1))
        report = render(out)
        publish(report, loaded, found, out)
    tell(report, out)
    raise typer.Exit(exit_code(report.gate.verdict, report.gate.strict, bool(missing_requested(report))))


@app.command()
def train(
    model: str,
    checkpoint: Annotated[Path | None, typer.Option(help="start from it: transfer learning; none trains from scratch")] = None,
    data: options.DataName = None,
    trainable_blocks: Annotated[int | None, typer.Option(help="0: only the new head; n: the last n blocks too")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate; with CHECKPOINT of all but the head")] = None,
    head_lr: Annotated[float | None, typer.Option(help="learning rate of the head; default: 10 times --lr")] = None,
    epochs: int | None = None,
    extract: Annotated[bool, typer.Option("--features", help="no training: write what the head reads to features.npz")] = False,
    input_size: options.InputSize = None,
    resize: options.Resize = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    recipe: Path | None = None,
    out: Path | None = None,
    changes: options.Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Train only the FP32 baseline: from scratch, or from CHECKPOINT with a new head for the classes of DATA."""
    section = "train" if checkpoint is None else "transfer"
    overrides = options.changes_of(changes)
    overrides |= options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels)
    overrides |= options.given(
        checkpoint=checkpoint, data__name=data, transfer__trainable_blocks=trainable_blocks, transfer__head_lr=head_lr,
        **{f"{section}__lr": lr, f"{section}__epochs": epochs},
    )  # fmt: skip
    if checkpoint is None and (extract or trainable_blocks is not None or head_lr is not None):
        raise ValueError("--features, --trainable-blocks and --head-lr start from a trained network; pass CHECKPOINT=file")
    loaded = load_recipe(model, recipe, overrides, [])
    out = out or default_out(model)
    with locked(out):
        made = learn(loaded, Stages(out / "stages"), extract)
    console.print(f"{made}", markup=False)


def default_out(model: str) -> Path:
    return Path("runs") / model.replace(":", ".")


@app.command()
def report(out: Path) -> None:
    """Render the report of OUT again from what is on disk."""
    tell(render(out), out)


@app.command()
def doctor() -> None:
    """Which targets work here, and why the others do not."""
    cpu, gpu = hardware.cpu(), hardware.gpu()
    machine = {
        "CPU": f"{cpu['cpu']}, {cpu['cores']} cores, {' '.join(cpu['isa']) or 'no extension known here'}",
        "GPU": ", ".join(gpu.values()) if gpu else "none that NVIDIA's driver tells of",
    }
    for name, state in (machine | {name: state_of(targets.get(name)) for name in targets.names()}).items():
        console.print(f"{name:14} {state}", markup=False)


def state_of(target: targets.Target) -> str:
    """What the target can do here, or why it cannot and what to install."""
    if reason := target.unavailable():
        later = "" if target.prepare is None else "; its bundle has build.sh, which builds on the device"
        return f"cannot build: {reason}{later}"
    precisions = ["FP32", (target.half() or "").upper(), "INT8" if target.PLACEMENT else ""]
    if target.PLACEMENT and target.PLACEMENT.reduce_range:
        precisions[-1] += " (7-bit weights: this CPU has no VNNI)"
    able = ", ".join(filter(None, precisions))
    hindrance = target.cannot_run()
    return f"builds {able}; cannot run: {hindrance}" if hindrance else f"works: {able}"


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
        "command": shlex.join(["python", "-m", "pipeline", *sys.argv[1:]]),
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
        print(f"error: {getattr(error, 'format_message', error.__str__)()}", file=sys.stderr)
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
