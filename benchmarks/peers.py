"""FP32 ONNX + calibration images -> INT8, by other tools, each with the best settings that we know of.

    python -m benchmarks.peers "nncf, mixed" model/ images/ 512 out/

writes out/model.onnx or out/model.xml, and to out/seconds how long that took. `quantized` does it in a process of its own:
modelopt changes onnxruntime's calibrators, which quantize_static then trips over.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.loader import Split, batches

PROJECT = Path(__file__).resolve().parent.parent
Feed = Callable[[], list[np.ndarray]]
FILES = ("model.onnx", "model.xml")


@dataclass(frozen=True)
class Tool:
    """A tool that quantizes.

    quantize     is called with the FP32 ONNX file, the calibration images in batches, and the folder to write to
    module       is imported before the clock starts
    placed_for   the runtime that its files are placed for, as it calls itself
    large        whether it calibrates at 224x224 within a common machine's memory
    """

    quantize: Callable[[Path, Feed, Path], None]
    module: str
    placed_for: str
    large: bool = True


def quantize_static(method: str, **options: Any) -> Callable[[Path, Feed, Path], None]:
    """onnxruntime's own: uint8 activations, int8 weights per channel, after its own pre-processing."""

    def quantize(model: Path, feed: Feed, out: Path) -> None:
        ort = importlib.import_module("onnxruntime.quantization")
        images = iter(feed())

        class Reader(ort.CalibrationDataReader):  # type: ignore[misc, name-defined]
            def get_next(self) -> dict[str, np.ndarray] | None:
                x = next(images, None)
                return None if x is None else {"input": x}

        prepared = out / "prepared.onnx"
        ort.shape_inference.quant_pre_process(str(model), str(prepared))
        ort.quantize_static(
            prepared, out / "model.onnx", Reader(), quant_format=ort.QuantFormat.QDQ, per_channel=True,
            activation_type=ort.QuantType.QUInt8, weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod[method], extra_options=options,
        )  # fmt: skip

    return quantize


def modelopt_onnx(model: Path, feed: Feed, out: Path) -> None:
    """int8, entropy (its default), float32 where it does not quantize. Q/DQ stand where TensorRT wants them."""
    quantization = importlib.import_module("modelopt.onnx.quantization")
    quantization.quantize(
        str(model), quantize_mode="int8", calibration_data={"input": np.concatenate(feed())}, calibration_method="entropy",
        calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=str(out / "model.onnx"),
    )  # fmt: skip


def nncf(preset: str, **options: Any) -> Callable[[Path, Feed, Path], None]:
    """NNCF on OpenVINO's own form of the network, images one by one; bias correction is on by default."""

    def quantize(model: Path, feed: Feed, out: Path) -> None:
        tool, openvino = importlib.import_module("nncf"), importlib.import_module("openvino")
        images = [x[None] for batch in feed() for x in batch]
        network = tool.quantize(
            openvino.Core().read_model(model), tool.Dataset(images), subset_size=len(images),
            preset=tool.QuantizationPreset[preset], **options,
        )  # fmt: skip
        # As in the files of the others: what stays floating point stays in float32.
        openvino.save_model(network, out / "model.xml", compress_to_fp16=False)

    return quantize


ORT = "onnxruntime.quantization.shape_inference"
TOOLS: dict[str, Tool] = {
    "quantize_static, min-max": Tool(quantize_static("MinMax"), ORT, "onnxruntime"),
    # Symmetric ranges, the default of percentiles, waste half of uint8 after a ReLU. Both keep all activations in memory.
    "quantize_static, percentile 99.99": Tool(
        quantize_static("Percentile", CalibPercentile=99.99, CalibTensorRangeSymmetric=False), ORT, "onnxruntime", large=False
    ),
    "quantize_static, entropy": Tool(quantize_static("Entropy"), ORT, "onnxruntime", large=False),
    "modelopt.onnx": Tool(modelopt_onnx, "modelopt.onnx.quantization", "TensorRT", large=False),
    "NNCF, performance": Tool(nncf("PERFORMANCE"), "nncf", "openvino"),
    "NNCF, mixed": Tool(nncf("MIXED"), "nncf", "openvino"),
    "NNCF, mixed, full bias correction": Tool(nncf("MIXED", fast_bias_correction=False), "nncf", "openvino", large=False),
}


def calibration(images: Path, count: int) -> list[np.ndarray]:
    """The training images that `observe` takes: float32 [n, C, H, W] each."""
    return [x.numpy() for x, _ in batches(Split(images, "train"), min(16, count), shuffle=True, limit=count)]


def quantized(tool: str, model: Path, images: Path, count: int, out: Path) -> tuple[Path, float]:
    """The file that `tool` makes of `model`/model.onnx in the new folder `out`, and the seconds it took.

    Raises RuntimeError with the tool's last words when there is none.
    """
    out.mkdir(parents=True)
    arguments = [tool, str(model), str(images), str(count), str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *arguments], cwd=PROJECT, capture_output=True, text=True,
        env={**os.environ, "NNCF_CI": "1"},  # or NNCF reports its use to its vendor
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if done.returncode > 0 and said else f"ended by signal {-done.returncode}")
    return next(out / name for name in FILES if (out / name).exists()), float((out / "seconds").read_text())


def main(tool: str, model: Path, images: Path, count: int, out: Path) -> None:
    importlib.import_module(TOOLS[tool].module)
    started = time.perf_counter()
    TOOLS[tool].quantize(model / "model.onnx", lambda: calibration(images, count), out)
    (out / "seconds").write_text(f"{time.perf_counter() - started:.1f}")


if __name__ == "__main__":
    chosen, network, data, number, folder = sys.argv[1:]
    main(chosen, Path(network), Path(data), int(number), Path(folder))
