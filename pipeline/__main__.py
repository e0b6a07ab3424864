"""The command line: python -m pipeline compress | compare | train | report | doctor."""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from core import hardware, startup
from core.cache import Stages, locked
from core.console import console
from core.text import one_line
from export import targets
from measure.gate import exit_code
from pipeline import options
from pipeline.baseline import learn
from pipeline.compare import Entry, folder_of, wishes
from pipeline.compare import compare as side_by_side
from pipeline.recipe import Recipe, load_recipe
from pipeline.run import run
from reports.compare import COMPARISON, comparison_of, render_comparison
from reports.compare import exit_code as exit_code_of
from reports.comparison import Comparison
from reports.render import render
from reports.rows import missing_requested
from reports.schema import Report

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def compress(
    model: str,
    checkpoint: options.Checkpoint = None,
    data: options.DataName = None,
    target_list: options.Targets = "",
    max_drop: options.MaxDrop = None,
    strict: options.Strict = False,
    budget: options.Budget = "",
    sweep: options.Sweep = "",
    finetune: options.Finetune = True,
    expect_top1: Annotated[float | None, typer.Option(help="percent the baseline should have; if it has less, stop")] = None,
    minutes: options.Minutes = None,
    latency_limit: Annotated[float | None, typer.Option(help="ms; the report names the largest batch within it")] = None,
    input_size: options.InputSize = None,
    resize: options.Resize = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    exif: options.Exif = None,
    channel_order: options.ChannelOrder = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; default: the model's own")] = None,
    out: Path | None = None,
    changes: options.Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Press MODEL: prune, distil, quantize, build, measure, gate."""
    wanted = options.listed(target_list)
    flags = options.common(data, max_drop, strict, budget, finetune, minutes)
    flags |= options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels, exif, channel_order)
    flags |= options.given(checkpoint=checkpoint, expect__top1=expect_top1, latency_limit=latency_limit)
    overrides = options.together(options.changes_of(changes), flags)
    loaded, variants = recipes_of(model, recipe, overrides, sweep, wanted)
    out = out or default_out(model)
    report = run(model, loaded, wanted, out, variants).report
    tell(report, out)
    raise typer.Exit(exit_code(report.gate.verdict, report.gate.strict, bool(missing_requested(report))))


@app.command()
def compare(
    models: Annotated[str, typer.Argument(help='"name" or "name=checkpoint", comma-separated; each by its own recipe')],
    data: options.DataName = None,
    target_list: options.Targets = "",
    max_drop: options.MaxDrop = None,
    strict: options.Strict = False,
    budget: options.Budget = "",
    sweep: options.Sweep = "",
    finetune: options.Finetune = True,
    minutes: options.Minutes = None,
    out: Path = Path("runs/compare"),
    changes: options.Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Press several MODELS, time their engines side by side, and say which one to take."""
    wanted = options.listed(target_list)
    flags = options.common(data, max_drop, strict, budget, finetune, minutes)
    overrides = options.together(options.changes_of(changes), flags)
    entries = {}
    for wish in wishes(models):
        own = overrides | options.given(checkpoint=wish.checkpoint)
        entries[wish.name] = Entry(wish.model, *recipes_of(wish.model, None, own, sweep, wanted))
    found = side_by_side(entries, wanted, out)
    tell_comparison(found, out)
    for model in found.models:
        if model.reason:
            print(f"error: {model.name}: {model.reason}", file=sys.stderr)
    raise typer.Exit(exit_code_of(found))


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
    exif: options.Exif = None,
    channel_order: options.ChannelOrder = None,
    recipe: Path | None = None,
    out: Path | None = None,
    changes: options.Set = [],  # noqa: B006 - typer reads it and nobody changes it
) -> None:
    """Train only the FP32 baseline: from scratch, or from CHECKPOINT with a new head for the classes of DATA."""
    section = "train" if checkpoint is None else "transfer"
    flags = options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels, exif, channel_order)
    flags |= options.given(
        checkpoint=checkpoint, data__name=data, transfer__trainable_blocks=trainable_blocks, transfer__head_lr=head_lr,
        **{f"{section}__lr": lr, f"{section}__epochs": epochs},
    )  # fmt: skip
    overrides = options.together(options.changes_of(changes), flags)
    if checkpoint is None and (extract or trainable_blocks is not None or head_lr is not None):
        raise ValueError("--features, --trainable-blocks and --head-lr start from a trained network; pass CHECKPOINT=file")
    loaded = load_recipe(model, recipe, overrides, [])
    out = out or default_out(model)
    with locked(out):
        made = learn(loaded, Stages(out / "stages"), extract)
    console.print(f"{made}", markup=False)


def recipes_of(
    model: str, file: Path | None, overrides: dict[str, Any], sweep: str, wanted: list[str]
) -> tuple[Recipe, dict[str, Recipe]]:
    """The recipe, and by label those that SWEEP tries in its place."""
    tried = options.sweep_of(sweep, overrides)
    return load_recipe(model, file, overrides, wanted), {
        label: load_recipe(model, file, overrides | changed, wanted) for label, changed in tried.items()
    }


def default_out(model: str) -> Path:
    return Path("runs") / folder_of(model)


@app.command()
def report(out: Path) -> None:
    """Render the report of OUT again from what is on disk; of a comparison, and of all that it compares."""
    if not (out / COMPARISON).exists():
        return tell(render(out), out)
    found = comparison_of(out)
    for model in found.models:
        if model.report:
            render(out / model.report)
    render_comparison(found, out)
    tell_comparison(found, out)


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


def tell(report: Report, out: Path) -> None:
    for note in report.notes:
        console.print(f"· {note}", markup=False)
    console.print(f"gate: [bold]{report.gate.verdict}[/bold] · {out / 'report.html'}")


def tell_comparison(found: Comparison, out: Path) -> None:
    for table in found.targets:
        for note in [f"{choice.what} that ships: {choice.text}" for choice in table.choices] + table.notes:
            console.print(f"· {table.target}: {note}", markup=False)
    console.print(f"{out / 'compare.html'}", markup=False)


def main() -> None:
    """Exit codes are the contract's; whatever nobody foresaw keeps its traceback and exits with 70 (EX_SOFTWARE)."""
    try:
        with startup.prepared():
            code = app(standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            console.print("interrupted; the same command continues where it stopped")
    except TyperException as error:
        print(f"error: {getattr(error, 'format_message', error.__str__)()}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(70)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
