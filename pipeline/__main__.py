"""The command line: respress (or python -m pipeline) compress | measure | compare | train | report | diff | doctor.

The commands import what they run inside their functions: `--help`, `--version` and bad flags do not wait for torch.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from core import ranks, startup, stop
from core.console import console
from core.text import one_line
from pipeline import __version__, options, torchrun
from pipeline.measure_command import measure
from pipeline.tell import tell, tell_comparison, tell_run

MEANINGS = {
    1: "gate failed",
    2: "bad input",
    3: "target unavailable",
    70: "internal error",
    130: "interrupted",
    143: "terminated",
}
app = typer.Typer(pretty_exceptions_enable=False, help="Press a trained ResNet onto an edge device.")


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False,
) -> None:
    if show:
        print(f"respress {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def compress(
    model: options.Model,
    checkpoint: options.Checkpoint = None,
    data: options.DataName = None,
    target_list: options.Targets = "",
    max_drop: options.MaxDrop = None,
    gate: options.Gate = "",
    strict: options.Strict = False,
    budget: options.Budget = "",
    sweep: options.Sweep = "",
    finetune: options.Finetune = True,
    expect_top1: options.ExpectTop1 = None,
    minutes: options.Minutes = None,
    choose_share: options.ChooseShare = None,
    latency_limit: options.LatencyLimit = None,
    golden_original: options.GoldenOriginal = False,
    threads: options.Threads = None,
    workers: options.Workers = None,
    again: options.Again = None,
    launch: options.Launch = "",
    student: options.Student = "",
    devices: options.Devices = "",
    device_images: options.DeviceImages = None,
    device_keep: options.DeviceKeep = False,
    flip: options.Flip = True,
    stem: options.Stem = None,
    input_size: options.InputSize = None,
    resize: options.Resize = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    exif: options.Exif = None,
    channel_order: options.ChannelOrder = None,
    recipe: options.RecipeFile = None,
    out: options.Out = None,
    changes: options.Set = [],  # noqa: B006 - typer only reads it
) -> None:
    """Press MODEL: prune, distil, quantize, build, measure, gate."""
    from pipeline import api
    from pipeline.out import default_out
    from pipeline.recipe import load_recipe
    from pipeline.students import Planned, train_student

    flags = options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels, exif, channel_order)
    flags |= options.given(expect__top1=expect_top1, latency_limit=latency_limit, train__stem=stem, load__stem=stem)
    flags |= options.given(data__choose_share=choose_share, flip=None if flip else False)
    flags |= options.given(bundle__golden_original=golden_original or None, measure__threads=threads)
    overrides = options.together(options.changes_of(changes), flags)
    if out is None:
        named = options.together(overrides, options.given(checkpoint=checkpoint, data__name=data))
        out = default_out(model, load_recipe(model, recipe, named, []))
    if student:
        common = options.common(data, max_drop, strict, budget, finetune, minutes, gate) | options.given(checkpoint=checkpoint)
        loaded = api.recipes_of(model, recipe, options.together(overrides, common), sweep, options.listed(target_list))
        train_student(Planned(out.name, *loaded, out), student)
        raise typer.Exit
    report = api.compress(
        model, checkpoint=checkpoint, data=data, targets=options.listed(target_list), max_drop=max_drop, strict=strict,
        gate=gate, budget=budget, sweep=sweep, finetune=finetune, minutes=minutes, recipe=recipe, out=out, launch=launch,
        again=again, changes=overrides, command=options.typed(), devices=options.listed(devices), device_images=device_images,
        device_keep=device_keep,
    )  # fmt: skip
    raise typer.Exit(tell_run(report, out, options.listed(devices)))


app.command()(measure)


@app.command()
def compare(
    models: Annotated[str, typer.Argument(help='"name" or "name=checkpoint", comma-separated; each by its own recipe')],
    data: options.DataName = None,
    target_list: options.Targets = "",
    max_drop: options.MaxDrop = None,
    gate: options.Gate = "",
    strict: options.Strict = False,
    budget: options.Budget = "",
    sweep: options.Sweep = "",
    finetune: options.Finetune = True,
    minutes: options.Minutes = None,
    flip: options.Flip = True,
    stem: options.Stem = None,
    launch: options.Launch = "",
    out: Annotated[Path | None, typer.Option(help="folder for all results; default: runs/compare-<models>+<data>")] = None,
    changes: options.Set = [],  # noqa: B006 - typer only reads it
) -> None:
    """Press several MODELS, time their engines side by side, and say which one to take."""
    from pipeline.api import recipes_of
    from pipeline.compare import Entry, requested
    from pipeline.compare import compare as side_by_side
    from pipeline.launch import Launch
    from pipeline.out import default_comparison
    from reports.compare import exit_code

    wanted = options.listed(target_list)
    flags = options.common(data, max_drop, strict, budget, finetune, minutes, gate)
    flags |= options.given(train__stem=stem, load__stem=stem, flip=None if flip else False)
    overrides = options.together(options.changes_of(changes), flags)
    entries = {}
    for network in requested(models):
        own = overrides | options.given(checkpoint=network.checkpoint)
        entries[network.name] = Entry(network.model, *recipes_of(network.model, None, own, sweep, wanted))
    out = out or default_comparison(entries.values())
    found = side_by_side(entries, wanted, out, options.typed(), Launch.of(launch))
    tell_comparison(found, out)
    for model in found.models:
        if model.reason:
            print(f"error: {model.name}: {model.reason}", file=sys.stderr)
    raise typer.Exit(exit_code(found))


@app.command()
def train(
    model: options.Model,
    checkpoint: Annotated[
        Path | None, typer.Option(help="transfer learning: start from this file; without it, train from scratch")
    ] = None,
    data: options.DataName = None,
    trainable_blocks: Annotated[
        int | None, typer.Option(help="with --checkpoint: 0 trains only the new head, n trains also the last n blocks")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="learning rate; with --checkpoint, the learning rate of all layers but the head")
    ] = None,
    head_lr: Annotated[float | None, typer.Option(help="learning rate of the new head; default: 10 times --lr")] = None,
    epochs: Annotated[int | None, typer.Option(help="number of epochs")] = None,
    workers: options.Workers = None,
    flip: options.Flip = True,
    stem: options.Stem = None,
    extract: Annotated[
        bool, typer.Option("--features", help="do not train; write the inputs of the head to features.npz")
    ] = False,
    input_size: options.InputSize = None,
    resize: options.Resize = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    exif: options.Exif = None,
    channel_order: options.ChannelOrder = None,
    recipe: options.RecipeFile = None,
    out: options.Out = None,
    changes: options.Set = [],  # noqa: B006 - typer only reads it
) -> None:
    """Train only the FP32 baseline: from scratch, or from CHECKPOINT with a new head for the classes of DATA."""
    from core.cache import Stages, locked
    from pipeline.baseline import learn
    from pipeline.out import default_out
    from pipeline.recipe import load_recipe

    section = "train" if checkpoint is None else "transfer"
    flags = options.preprocessing(input_size, resize, crop_pct, interpolation, mean, std, channels, exif, channel_order)
    flags |= options.given(
        checkpoint=checkpoint, data__name=data, transfer__trainable_blocks=trainable_blocks, transfer__head_lr=head_lr,
        train__stem=stem, load__stem=stem, flip=None if flip else False,
        **{f"{section}__lr": lr, f"{section}__epochs": epochs},
    )  # fmt: skip
    overrides = options.together(options.changes_of(changes), flags)
    if checkpoint is None and (extract or trainable_blocks is not None or head_lr is not None):
        raise ValueError("--features, --trainable-blocks and --head-lr start from a trained network; pass CHECKPOINT=file")
    loaded = load_recipe(model, recipe, overrides, [])
    out = out or default_out(model, loaded)
    with locked(out):
        made = learn(loaded, Stages(out / "stages"), extract)
    console.print(f"{made}", markup=False)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="folder of a finished run or comparison")],
    against: Annotated[
        Path | None, typer.Option(help="folder of an earlier run; the exit code judges what was lost since")
    ] = None,
) -> None:
    """Write the report of OUT again from the files on disk; for a comparison, also the reports of its networks."""
    from reports.card import write_card
    from reports.compare import COMPARISON, comparison_of, render_comparison
    from reports.render import render

    if against or not (out / COMPARISON).exists():
        found = render(out)
        write_card(found, out)
        tell(found, out)
        return diff(against, out) if against else None
    comparison = comparison_of(out)
    for model in comparison.models:
        if model.report:
            write_card(render(out / model.report), out / model.report)
    render_comparison(comparison, out)
    tell_comparison(comparison, out)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="folder of the earlier run")],
    new: Annotated[Path, typer.Argument(help="folder of the run to judge")],
) -> None:
    """Judge NEW against the earlier run OLD: accuracy by class, latency, size, and what changed; exits as the gate does."""
    from pipeline.regression import compare_with

    raise typer.Exit(compare_with(new, old))


@app.command()
def doctor() -> None:
    """List the targets: which work on this machine, and why the others do not."""
    from pipeline.doctor import states

    for name, state in states().items():
        console.print(f"{name:14} {state}", markup=False)


def main() -> None:
    """Run the command line. Exit codes are the contract's; the last line of the output says in words each that is not 0.

    make turns every code but 0 into its own 2, so scripts that call make read this line.
    """
    stop.on_signals()
    code = exit_code_of_command()
    if code and not (code in (130, 143) and torchrun.reports()):
        print(f"exit code {code}: {MEANINGS[code]}", flush=True)
    ranks.leave(code, stopped=code in (130, 143))


def exit_code_of_command() -> int:
    """An unforeseen error keeps its traceback and becomes 70 (EX_SOFTWARE)."""
    try:
        with startup.prepared(), ranks.joined():
            code = app(standalone_mode=False) or 0
    except stop.Terminated:
        code = 143
    except ranks.Lost as error:
        print(f"error: {error}", file=sys.stderr)
        code = 143
    except TyperException as error:
        return refuse(getattr(error, "format_message", error.__str__)())
    except ValueError as error:
        return refuse(one_line(error))
    except Exception:
        traceback.print_exc()
        return 70
    if code in (130, 143) and not torchrun.reports():  # typer makes 130 of Ctrl-C
        console.print(f"{MEANINGS[code]}; the same command continues where it stopped")
    return int(code)


def refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
