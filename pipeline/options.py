"""The command line's words -> changes of the recipe ({"section.key": value})."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Set = Annotated[list[str], typer.Option("--set", help="section.key=value, any key of the recipe; may be repeated")]
Checkpoint = Annotated[Path | None, typer.Option(help=".pt, .pth or .safetensors; none trains a baseline")]
DataName = Annotated[str | None, typer.Option("--data", help="fashion-mnist, cifar10 or a folder of images")]
InputSize = Annotated[int | None, typer.Option(help="side of the network's square input, pixels")]
Resize = Annotated[str | None, typer.Option(help="pixels of the shorter side before the crop; or pad, or squash")]
CropPct = Annotated[float | None, typer.Option(help="input size / resize, instead of --resize")]
Interpolation = Annotated[str | None, typer.Option(help="bilinear, bicubic, …")]
Mean = Annotated[str | None, typer.Option(help="of the training images on the 0 … 1 scale: one number, or one per channel")]
Std = Annotated[str | None, typer.Option(help="likewise")]
Channels = Annotated[int | None, typer.Option(help="1 (grey) or 3 (RGB); default: the checkpoint's")]


def preprocessing(
    input_size: int | None, resize: str | None, crop_pct: float | None, interpolation: str | None,
    mean: str | None, std: str | None, channels: int | None,
) -> dict[str, Any]:  # fmt: skip
    """The data section's keys, those that were given."""
    return given(
        data__input_size=input_size,
        data__resize=int(resize) if resize and resize.isdigit() else resize,
        data__crop_pct=crop_pct,
        data__interpolation=interpolation,
        data__mean=numbers("--mean", mean),
        data__std=numbers("--std", std),
        data__channels=channels,
    )


def numbers(flag: str, text: str | None) -> list[float] | None:
    """ "0.485,0.456,0.406" -> the numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{flag} {text!r}: expected a number, or one per channel such as 0.485,0.456,0.406") from error


def changes_of(changes: list[str]) -> dict[str, Any]:
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


def limits_of(budget: str) -> dict[str, Any]:
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


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None; `__` in a name stands for the dot of a section."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}
