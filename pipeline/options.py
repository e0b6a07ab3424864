"""The command line's words -> changes of the recipe ({"section.key": value})."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.gates import gates_of


def limit_workers(value: int | None) -> int | None:
    if value is not None:
        from data import workers  # it imports torch, and --help should be quick

        workers.limit = value
    return value


COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
# what is limited: (key of the recipe's section budget, units, target when none is given: "" for none, None for an error)
BUDGETS: dict[str, tuple[str, dict[str, float], str | None]] = {
    "params": ("max_params", COUNTS, ""),
    "macs": ("max_macs", COUNTS, ""),
    "size": ("max_size", BYTES, "onnxruntime"),
    "latency": ("max_latency", {"us": 1e-3, "ms": 1.0, "s": 1e3}, None),
    "speedup": ("min_speedup", {"": 1.0, "x": 1.0}, None),
}
STAGES = {"latency": ("latency", "alone", "latency_on_device")}  # by what AGAIN says: the stages that run again
EXPECTED = "drop=1, params=10M, macs=2G, size=8MB, latency=4ms@onnxruntime or speedup=10@onnxruntime"

Model = Annotated[str, typer.Argument(help="a network of the family, such as resnet50, or package.module:factory")]
Set = Annotated[
    list[str], typer.Option("--set", help="change any key of the recipe: section.key=value; may be given several times")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help=".pt, .pth or .safetensors file; without it, a baseline is trained first")
]
DataName = Annotated[str | None, typer.Option("--data", help="fashion-mnist, cifar10 or a folder of images")]
Targets = Annotated[
    str,
    typer.Option(
        "--targets",
        help="names of targets, comma-separated, each also @device (onnxruntime@arm64); default: all that work here",
    ),
]
MaxDrop = Annotated[float | None, typer.Option(help="the gate fails at this drop of top-1, percentage points; GATE top1=…")]
Gate = Annotated[
    str,
    typer.Option(
        help="limits of the loss, percentage points: top1=1,recall:NAME=0.5,worst_class=2,balanced=1; default: top1=1"
    ),
]
Strict = Annotated[bool, typer.Option(help="nothing ships that is inconclusive or unmeasured; then the exit code is 1")]
Budget = Annotated[
    str,
    typer.Option(help="drop=1: search the hardest pruning within 1 point; or params=10M,macs=2G,size=8MB,latency=4ms@target,…"),
]
Sweep = Annotated[
    str, typer.Option(help="pruning ratios (0.3,0.5,0.7) or budgets to try; the fastest engine that passes the gate ships")
]
Finetune = Annotated[
    bool, typer.Option("--finetune/--no-finetune", help="--no-finetune: only quantize, without pruning and distillation")
]
Flip = Annotated[
    bool, typer.Option("--flip/--no-flip", help="--no-flip: never exchange left and right in training (digits, text)")
]
Minutes = Annotated[float | None, typer.Option(help="time of the whole run; the best engine so far ships when it is over")]
ExpectTop1 = Annotated[
    float | None, typer.Option(help="known top-1 of the checkpoint, percent; the run stops if it is far below this")
]
ChooseShare = Annotated[
    float | None,
    typer.Option(help="share of the test images that chooses, for a checkpoint without val/ beside test/; default: 1/3"),
]
LatencyLimit = Annotated[
    float | None, typer.Option(help="milliseconds; the report names the largest batch size within this limit")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="threads of every engine, here and in its bundle; default: one per physical core")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        callback=limit_workers,
        help="processes that decode images; 0: none, where shared memory is short; default: one per core",
    ),
]
Again = Annotated[
    Literal["latency"] | None, typer.Option(help="latency: measure the latencies again although nothing has changed")
]
Stem = Annotated[
    Literal["imagenet", "small"] | None,
    typer.Option(help="first layer of a network trained from scratch: imagenet (7x7, pooling) or small (3x3)"),
]
GoldenOriginal = Annotated[
    bool, typer.Option("--golden-original", help="golden.npz gets your image files as they are, with their EXIF data")
]
Launch = Annotated[
    str, typer.Option(help="local:2 or slurm:partition=gpu,gpus=1: jobs that train the students, several at the same time")
]
Student = Annotated[
    str,
    typer.Option(help="train only this one of SWEEP and end, as a job does; without it, the same command goes on"),
]
Devices = Annotated[
    str,
    typer.Option("--devices", help="devices, comma-separated, as DEVICE of `measure`: what ships is also measured there"),
]
DeviceImages = Annotated[
    int | None, typer.Option("--device-images", min=1, help="test images that a device predicts, evenly spaced; default: all")
]
DeviceKeep = Annotated[
    bool, typer.Option("--device-keep", help="the images stay on the device, in ~/.cache/respress, for the next time")
]
RecipeFile = Annotated[Path | None, typer.Option(help="TOML file; default: that of the model, and of DATA, in recipes/")]
Out = Annotated[Path | None, typer.Option(help="folder for all results; default: runs/<model>-<checkpoint>+<data>")]
InputSize = Annotated[int | None, typer.Option(help="side of the network's square input, pixels")]
Resize = Annotated[str | None, typer.Option(help="length of the shorter side before the crop, pixels; or pad, or squash")]
CropPct = Annotated[float | None, typer.Option(help="input size divided by resize; use it instead of --resize")]
Interpolation = Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic, lanczos, box or hamming")]
Mean = Annotated[
    str | None, typer.Option(help="mean of the training images on the 0 to 1 scale: one number, or one per channel")
]
Std = Annotated[str | None, typer.Option(help="standard deviation of the training images: one number, or one per channel")]
Channels = Annotated[int | None, typer.Option(help="input channels: 1 (grey) or 3 (RGB); default: those of the checkpoint")]
ChannelOrder = Annotated[str | None, typer.Option(help="rgb, or bgr for networks trained on images as OpenCV reads them")]
Exif = Annotated[str | None, typer.Option(help="apply or ignore the rotation in EXIF; default for a checkpoint: ignore")]


def common(
    data: str | None, max_drop: float | None, strict: bool, budget: str, finetune: bool, minutes: float | None, gate: str
) -> dict[str, Any]:
    """The changes that `compress` and `compare` both know."""
    limits = limits_of(budget)
    return limits | gates_of(gate, max_drop, limits) | given(
        data__name=data, gate__strict=strict or None, finetune=None if finetune else False,
        minutes=minutes,
    )  # fmt: skip


def again_of(text: str | None) -> tuple[str, ...]:
    """ "latency" -> the names of the stages that run again."""
    if text is None:
        return ()
    if text not in STAGES:
        raise ValueError(f"again={text!r}: expected {' or '.join(STAGES)}, or None")
    return STAGES[text]


def preprocessing(
    input_size: int | None, resize: str | None, crop_pct: float | None, interpolation: str | None,
    mean: str | None, std: str | None, channels: int | None, exif: str | None,
    channel_order: str | None,
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
        data__channel_order=channel_order,
        data__exif=exif,
    )


def listed(text: str) -> list[str]:
    """ "onnxruntime, openvino" -> the names."""
    return [name.strip() for name in text.split(",") if name.strip()]


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
            meant = json.loads(value)
        except json.JSONDecodeError:
            meant = value
        if parsed.get(key, meant) != meant:
            raise ValueError(f"--set {key}={parsed[key]} and --set {change} disagree; pass one of them")
        parsed[key] = meant
    return parsed


def together(changes: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """What --set and the flags say. ValueError when they say different values for one key."""
    for key, value in flags.items():
        if key in changes and changes[key] != value:
            raise ValueError(f"--set {key}={changes[key]} and the flag for {key} ({value}) disagree; pass one of them")
    return changes | flags


def limits_of(budget: str) -> dict[str, Any]:
    """ "params=10M,latency=4ms@onnxruntime" -> {"budget.max_params": 1e7, "budget.max_latency": {"onnxruntime": 4.0}}.

    "drop=1" is the gate's limit; alone, the hardest pruning within it is searched. Units are powers of ten, in any case: see
    `BUDGETS`. Raises ValueError for a part that cannot be read or comes twice, for a
    number that is not above zero, and for a target that does not exist.
    """
    from export import targets  # here, so that --help does not wait for it

    parsed: dict[str, Any] = {}
    parts = list(filter(None, map(str.strip, budget.split(","))))
    for part in parts:
        kind, _, limit = part.partition("=")
        amount, at, target = (text.strip() for text in limit.partition("@"))
        if kind.strip().lower() == "drop" and (points := amount_of(amount, {"": 1.0})):
            parsed |= {"gate.max_drop": points} | ({"levels.on": True} if len(parts) == 1 else {})
            continue
        field, units, default = BUDGETS.get(kind.strip().lower(), ("", {}, None))
        value = amount_of(amount, units)
        on = target if at else default
        if not value or on is None or (at and not (target and default != "")):
            raise ValueError(f"BUDGET {part!r} is not understood; expected {EXPECTED}, comma-separated")
        key, before = f"budget.{field}", parsed.get(f"budget.{field}", {})
        if key in parsed and (not on or on in before):
            raise ValueError(
                f"BUDGET {budget!r} limits {part.partition('=')[0]} twice; expected each limit once, or once per target"
            )
        if on:
            targets.get(on)
        parsed[key] = {**before, on: value} if on else value
    return parsed


def sweep_of(text: str, overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """ "0.3,0.5" -> {"0.3": {"prune.pruning_ratio": 0.3}, …}; budgets likewise. `;` separates budgets of several limits.

    Raises ValueError for what is neither, for fewer than two, for one that comes twice, and beside a budget in `overrides`.
    """
    parts = [part.strip() for part in re.split(";" if ";" in text else ",", text) if part.strip()]
    if not parts:
        return {}
    expected = "expected different pruning ratios (0.3,0.5,0.7) or budgets (params=5M,params=2M, or with ; between them)"
    if len(parts) < 2 or len(set(parts)) < len(parts):
        raise ValueError(f"SWEEP {text!r}: {expected}")
    if any(key.startswith("budget.") for key in overrides):
        raise ValueError(
            f"SWEEP {text!r} and BUDGET both say how much to prune; put the budgets into SWEEP, or drop one of them"
        )
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        ratio = float(part) if re.fullmatch(r"0?\.\d+|0", part) else None
        if ratio is None and "=" not in part:
            raise ValueError(f"SWEEP {part!r}: {expected}")
        found[part] = limits_of(part) if ratio is None else {"prune.pruning_ratio": ratio}
    return found


def amount_of(text: str, units: dict[str, float]) -> float | None:
    """ "10M" -> 1e7; None for what is not a plain number with one of the `units`."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.lower())
    return float(found[1]) * units[found[2]] if found and found[2] in units else None


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None; `__` in a name stands for the dot of a section."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}


def typed() -> str:
    """The command as the user typed it."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])
