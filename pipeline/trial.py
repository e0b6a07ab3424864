"""Builds and times candidate INT8 engines for BUDGET. Accuracy is not measured.

The engines are built in the same way as those of the page.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from calibration.observe import Calibrate, observe
from calibration.place import place_qdq
from compress.budget import Budget
from core import hardware
from core.engine_name import engine_and_device
from core.placement import Placement
from core.profile import here, profile_of
from core.text import first_line
from data.loader import Split, batches
from export import targets
from export.half import HalfOf, half
from export.onnx import Export, export
from export.targets._engine import EngineOptions
from measure.calls import Runner, timed
from measure.engines import Measure

RANGES = Calibrate(method="max", images=16, samples=16)  # the ranges do not change the latency
TURNS = (3, 12)  # minimum and maximum
AGREE = 1.03  # largest ratio of the p50 of the two quickest turns
CALM = 1.3  # largest ratio of p50 to p10 in each of them
QUERIES = (5, 50)  # minimum and maximum in a turn
SECONDS = 0.1  # length of a turn without its warm-up


def check_targets(budget: Budget, chosen: Sequence[str]) -> None:
    """ValueError if a limit needs a target that has no INT8 engine, cannot run here, or is not one of `chosen`."""
    for name in budget.targets:
        target, profile = targets.get(name), profile_of(engine_and_device(name)[1])
        if target.placement(profile) is None:
            able = ", ".join(n for n in targets.names() if targets.get(n).placement(here()))
            raise ValueError(f"BUDGET is for INT8 engines and {name} has none; expected one of {able}")
        if reason := profile.hindrance or target.unavailable() or target.cannot_run():
            raise ValueError(
                f"BUDGET on {name} must be measured, but {name} cannot run here ({reason}); set a BUDGET on another target"
            )
        if name not in chosen:
            raise ValueError(f"BUDGET is on {name}, but TARGETS has only {', '.join(chosen)}; add {name} to TARGETS")


def trial(
    networks: Sequence[nn.Module],
    target: str,
    *,
    options: dict[str, Any],
    threads: int | None,
    images: Path,
    baseline: Path,
    exact: bool,
) -> list[dict[str, float]]:
    """For each network {"p50": ms, "size": bytes, "baseline": ms} of its INT8 engine, batch 1; all engines take turns.

    `baseline` is the folder of the FP32 baseline's model.onnx. p50 is the median of the quickest turn, because other work on
    the machine only makes turns slower. `exact` uses the same exporter as for engines that ship: it takes longer, its files are
    larger, and its resnet50 was 1 to 3 % quicker (p50 of 1,000, twice).
    """
    module = targets.get(target)
    settings = module.Options(**options)
    x, _ = next(batches(Split(images, "train"), 2, limit=2))
    with tempfile.TemporaryDirectory() as folder:
        engines = [Path(folder) / str(i) for i in range(len(networks) + 1)]
        for engine in engines:
            engine.mkdir()
        built = module.build(settings, engines[0], model=baseline, images=images)
        sizes = [built["size_bytes"]]
        for network, engine in zip(networks, engines[1:], strict=True):
            with tempfile.TemporaryDirectory() as parts:
                model = quantized(network, x, placement_of(module, settings), images, Path(parts), exact)
                sizes.append(module.build(settings, engine, model=model, images=images)["size_bytes"])
        reference, *times = p50s([module.load(engine, threads or hardware.cores()) for engine in engines], x[:1].numpy())
    return [{"p50": p50, "size": size, "baseline": reference} for p50, size in zip(times, sizes[1:], strict=True)]


def size(network: nn.Module, target: str, *, options: dict[str, Any], images: Path) -> float:
    """The bytes of the INT8 engine of `network`, built like those that ship."""
    module = targets.get(target)
    settings = module.Options(**options)
    x, _ = next(batches(Split(images, "train"), 2, limit=2))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as engine:
        model = quantized(network, x, placement_of(module, settings), images, Path(folder), exact=True)
        return float(module.build(settings, Path(engine), model=model, images=images)["size_bytes"])


def placement_of(target: targets.Target, options: EngineOptions) -> Placement:
    """How Q/DQ is placed in the engines of `target`, which has INT8."""
    usual = target.placement(options.profile)
    assert usual is not None
    return options.placed(usual)


def quantized(network: nn.Module, x: Tensor, placement: Placement, images: Path, folder: Path, exact: bool) -> Path:
    """A folder with the Q/DQ model.onnx of `network`."""
    plain, ranges, placed, halved = (folder / name for name in ("plain", "ranges", "placed", "halved"))
    for part in (plain, ranges, placed, halved):
        part.mkdir()
    exporters = (True, False) if exact else (False, True)
    exported(fuse(network.eval()), x, plain / "model.onnx", exporters)
    observe(RANGES, ranges, model=plain, images=images)
    place_qdq(placement, placed, model=plain, ranges=ranges)
    if placement.floats != "float16":
        return placed
    half(HalfOf(float32_input=placement.input == "float32"), halved, model=placed)
    return halved


def exported(network: nn.Module, x: Tensor, file: Path, exporters: tuple[bool, bool]) -> None:
    """Export with the first of the `exporters` (dynamo or not) that works; ValueError if neither does."""
    problems = []
    for dynamo in exporters:
        try:
            return export(network, x, file, Export().opset, dynamo)
        except Exception as error:  # both may raise anything
            problems.append(first_line(error))
    raise ValueError(f"BUDGET cannot be measured: the network cannot be exported to ONNX ({'; '.join(problems)})")


def p50s(runners: Sequence[Runner], image: np.ndarray) -> list[float]:
    """The median of each runner's quickest turn, milliseconds for one image [1, C, H, W]."""
    rough = [statistics.median(timed(run, image, QUERIES[0], warmup=0)) for run in runners]
    queries = [int(np.clip(SECONDS / seconds, *QUERIES)) for seconds in rough]
    turns: list[list[tuple[float, float]]] = [[] for _ in runners]
    while unsettled := [i for i, taken in enumerate(turns) if not settled(taken)]:
        for i in unsettled:
            p50, p10 = np.percentile(timed(runners[i], image, queries[i], Measure().warmup), (50, 10))
            turns[i].append((float(p50), float(p10)))
    return [1000 * min(taken)[0] for taken in turns]


def settled(taken: Sequence[tuple[float, float]]) -> bool:
    """Whether the quickest turns (p50, p10) were undisturbed by other work, or the maximum of turns is reached.

    They were undisturbed if they agree and p50 is not much larger than p10: an engine whose threads wait for a busy core has a
    p50 several times its p10.
    """
    quickest = sorted(taken)[:2]
    calm = len(taken) >= TURNS[0] and all(p50 <= CALM * p10 for p50, p10 in quickest)
    return len(taken) >= TURNS[1] or (calm and quickest[1][0] <= AGREE * quickest[0][0])
