"""The FP32 ONNX files of a finished run, quantized by each tool on the same images, all executed by ONNX Runtime.

    python -m benchmarks.quantizers runs/resnet101

Peers get their best settings that we know of (see `TOOLS`). A tool that is not installed or fails has a row that says so.
Latency: batch 1, the networks of one table take turns; the spread is the range of the medians of the turns' tenths.
"""

import importlib
import importlib.metadata
import json
import multiprocessing
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from calibration.observe import Calibrate, observe
from calibration.place import place_qdq
from data.loader import Split, batches
from export.targets import onnxruntime as engine
from pipeline import hardware
from pipeline.console import console
from reports.measure import timed

IMAGES, QUERIES, TURN, WARMUP = 512, 1000, 100, 0.2
PACKAGES = ("onnxruntime", "nvidia-modelopt", "onnx", "numpy")
RESULTS = Path(__file__).parent / "RESULTS.md"


def ours(model: Path, images: Path, out: Path) -> None:
    """Ranges: percentile 99.99, the pipeline's default."""
    assert engine.PLACEMENT is not None
    ranges = out.parent / f"{out.name}.ranges"
    ranges.mkdir()
    observe(Calibrate(images=IMAGES), ranges, model=model, images=images)
    place_qdq(engine.PLACEMENT, out, model=model, ranges=ranges)


def onnxruntime_static(model: Path, images: Path, out: Path) -> None:
    """uint8 activations, int8 weights per channel, min-max, after its own pre-processing."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.items = iter(calibration(images))

        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(self.items, None)
            return None if x is None else {"input": x}

    prepared = out / "prepared.onnx"
    quant_pre_process(str(model / "model.onnx"), str(prepared))
    quantize_static(
        prepared, out / "model.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip


def modelopt_onnx(model: Path, images: Path, out: Path) -> None:
    """int8, entropy (its default), float32 where it does not quantize."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(model / "model.onnx"), quantize_mode="int8", calibration_data={"input": np.concatenate(calibration(images))},
        calibration_method="entropy", calibration_eps=["cpu"], high_precision_dtype="fp32",
        output_path=str(out / "model.onnx"),
    )  # fmt: skip


# The function, and what it imports: imported before the clock starts.
TOOLS: dict[str, tuple[Callable[[Path, Path, Path], None], str]] = {
    "respress": (ours, "calibration.place"),
    "onnxruntime quantize_static": (onnxruntime_static, "onnxruntime.quantization"),
    "modelopt.onnx": (modelopt_onnx, "modelopt.onnx.quantization"),
}


def seconds_of(tool: str, model: Path, images: Path, out: Path) -> float:
    """Quantize `model` with `tool` into `out`/model.onnx and tell how long that took."""
    quantize, module = TOOLS[tool]
    importlib.import_module(module)
    started = time.perf_counter()
    quantize(model, images, out)
    return time.perf_counter() - started


def calibration(images: Path) -> list[np.ndarray]:
    """The same training images that `observe` takes."""
    return [x.numpy() for x, _ in batches(Split(images, "train"), 16, shuffle=True, limit=IMAGES)]


def runner(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray(session.run(None, {"input": x})[0])


def compare(name: str, model: Path, images: Path, work: Path) -> list[list[str]]:
    """One row per tool for the network in `model`: accuracy, latency, int8 share, seconds spent."""
    files: dict[str, Path] = {"FP32": model / "model.onnx"}
    spent: dict[str, str] = {"FP32": ""}
    failed: dict[str, str] = {}
    for tool in TOOLS:
        out = work / f"{name}-{tool.replace(' ', '-')}"
        out.mkdir()
        try:
            # A process of its own: modelopt changes onnxruntime's calibrators, which quantize_static then trips over.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                spent[tool] = f"{process.submit(seconds_of, tool, model, images, out).result():.1f}"
        except Exception as error:  # a peer that fails is a result, not the end of the comparison
            failed[tool] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            continue
        files[tool] = out / "model.onnx"

    sessions = {tool: engine.open_session(file, hardware.cores()) for tool, file in files.items()}
    runs = {tool: runner(session) for tool, session in sessions.items()}
    split = Split(images, "test")
    right = dict.fromkeys(runs, 0)
    for x, y in batches(split, 100):
        for tool, run in runs.items():
            right[tool] += int((run(x.numpy()).argmax(1) == y.numpy()).sum())
    image = next(batches(split, 1))[0].numpy()
    times: dict[str, list[float]] = {tool: [] for tool in runs}
    for _ in range(QUERIES // TURN):
        for tool, run in runs.items():
            times[tool] += timed(run, image, TURN, WARMUP)
    medians = {tool: np.median(taken) for tool, taken in times.items()}
    rows = []
    for tool in runs:
        tenths = [1000 * float(np.median(part)) for part in np.array_split(times[tool], 10)]
        rows.append([
            name, tool, f"{100 * right[tool] / len(split):.2f}", f"{1000 * medians[tool]:.3f}",
            f"{min(tenths):.3f} … {max(tenths):.3f}", f"{medians[tool] / medians['respress']:.2f}",
            "" if tool == "FP32" else f"{engine.int8_share(files[tool]):.2f}", spent[tool],
        ])  # fmt: skip
    return rows + [[name, tool, why, "", "", "", "", ""] for tool, why in failed.items()]


def main(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    columns = ["network", "quantized by", "top-1 %", "p50 ms", "p50 of tenths", "p50 / respress", "INT8 share", "seconds"]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as work:
        for network in ("baseline", "student"):
            rows += compare(network, run / record[network], run / record["images"], Path(work))
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    about = ", ".join(f"{name} {installed.get(name, 'not installed')}" for name in PACKAGES)
    cpu = hardware.cpu()
    lines = [
        f"## {record['model']}: INT8 by three tools, executed by ONNX Runtime",
        "",
        f"`{shlex.join(['python', '-m', 'benchmarks.quantizers', *sys.argv[1:]])}` after `{record['command']}`; "
        f"{cpu['cpu']}, {cpu['cores']} cores, {' '.join(cpu['isa'])}; {about}; {QUERIES} queries each in turns of {TURN}; "
        f"{IMAGES} calibration images.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    with RESULTS.open("a") as file:
        file.write("\n".join(["", *lines]))
    console.print(f"added to {RESULTS}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
