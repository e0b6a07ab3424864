"""The calls of respress.py and of the command line."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from measure.device.devices import device_of
from pipeline import options
from pipeline.devices import OnDevices, measure_on
from pipeline.launch import Launch
from pipeline.out import default_out
from pipeline.recipe import Recipe, load_recipe
from pipeline.run import run
from pipeline.students import Planned, launch_students
from reports.schema import Report


def compress(
    model: str,
    *,
    checkpoint: str | Path | None = None,
    data: str | Path | None = None,
    targets: Sequence[str] = (),
    max_drop: float | None = None,
    gate: str = "",
    strict: bool = False,
    budget: str = "",
    sweep: str = "",
    finetune: bool = True,
    minutes: float | None = None,
    again: str | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    launch: str = "",
    devices: Sequence[str] = (),
    device_images: int | None = None,
    device_keep: bool = False,
    changes: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Report:
    """Press `model` into the folder `out`, or continue an interrupted run there, and return its report.

    The arguments are the flags of `respress compress` and have the same defaults. `changes` are keys of the recipe, such as
    {"prune.pruning_ratio": 0.6, "expect.top1": 76.1}; they must not contradict the other arguments. `out` is by default
    runs/<model>, with the names of `checkpoint` and `data` (pipeline/out.py).
    `command` stands in the report; by default it is this call.

    With `launch`, jobs train the students: "local:2" or "slurm:partition=gpu,gpus=1" (docs/cluster.md).
    What ships is also measured on the `devices` over ssh, each named as in `measure`, with `device_images` and `device_keep`.

    A failed gate is not an error: see `report.gate.verdict`. Raises ValueError (one line: what was got, what was expected,
    what to do) for bad input and when another run is writing to `out`.
    """
    call = call_of(compress, dict(locals()))
    flags = options.common(None if data is None else str(data), max_drop, strict, budget, finetune, minutes, gate)
    flags |= options.given(checkpoint=checkpoint)
    overrides = options.together(dict(changes or {}), flags)
    reached = [device_of(name) for name in devices]
    loaded, variants = recipes_of(model, None if recipe is None else Path(recipe), overrides, sweep, list(targets))
    folder, again_named = Path(out or default_out(model, loaded)), options.again_of(again)
    if cluster := Launch.of(launch):
        launch_students([Planned(folder.name, loaded, variants, folder)], cluster, folder / "jobs")
    report = run(model, loaded, list(targets), folder, variants, command=command or call, again=again_named).report
    if reached and any(row.ships for row in report.rows):
        return measure_on(reached, folder, OnDevices(device_images, device_keep, again_named))
    return report


def measure(
    out: str | Path, device: str, *, device_images: int | None = None, device_keep: bool = False, again: str | None = None
) -> Report:
    """Measure what ships in the finished run `out` on a device over ssh, and return the report with its rows.

    `device` is an entry of devices.toml in the current folder, an alias of ssh, or ssh://user@host:port. `device_images`: so
    many of the test images, evenly spaced; None: all. `device_keep`: they stay there, in ~/.cache/respress. `again`: "latency"
    measures the latencies again although nothing has changed.

    A device that cannot be had is not an error: its rows have the status "unavailable" and the reason. Raises ValueError for a
    wrong name or entry, where there is no finished run, and if nothing of it ships.
    """
    return measure_on([device_of(device)], Path(out), OnDevices(device_images, device_keep, options.again_of(again)))


def load_report(folder: str | Path) -> Report:
    """The report of the finished run in `folder`.

    Raises ValueError where there is no report.json, and where it is not one of this version of respress.
    """
    path = Path(folder) / "report.json"
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; expected the folder of a finished run (OUT of `compress`)") from error
    except ValidationError as error:
        raise ValueError(f"{path} is not a report of this version; run `respress report {folder}` to write it again") from error


def recipes_of(
    model: str, file: Path | None, overrides: dict[str, Any], sweep: str, wanted: list[str]
) -> tuple[Recipe, dict[str, Recipe]]:
    """The recipe, and by label those that SWEEP tries in its place."""
    tried = options.sweep_of(sweep, overrides)
    return load_recipe(model, file, overrides, wanted), {
        label: load_recipe(model, file, overrides | changed, wanted) for label, changed in tried.items()
    }


def call_of(function: Any, arguments: dict[str, Any]) -> str:
    """The Python call with those `arguments` that differ from the defaults."""
    parameters = inspect.signature(function).parameters.values()
    given = [p for p in parameters if arguments[p.name] != p.default]
    words = [f"{'' if p.default is p.empty else p.name + '='}{plain(arguments[p.name])!r}" for p in given]
    return f"respress.{function.__name__}({', '.join(words)})"


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
