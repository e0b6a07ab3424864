"""Build model.engine on this device, measure it, and enter it into bundle.json. build.sh starts this script.

    python3 build_engine.py [model.onnx | legacy.onnx]     build with the Python package tensorrt
    python3 build_engine.py --built-by-trtexec FILE        trtexec has built model.engine from FILE, and has written
                                                           times.json and layers.json

Needs numpy, and for the first command also tensorrt. build.json has the options of the build, device.json gets its results.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runner import MODULE, Driver, open_engine
from trt_build import build_engine, int8_share, layers_of, share_of, strongly_typed

HERE = Path(__file__).resolve().parent
WARM_UP, QUERIES = 100, 1000
BY_CLOCK = "time from images to logits (Python), both copies included, in a CUDA graph where possible, one query at a time"
BY_EVENTS = (
    "time on the GPU of both copies and the kernels, by trtexec, with the next query waiting; as a CUDA graph where possible"
)


def main(arguments: Sequence[str]) -> None:
    """Raises ValueError or RuntimeError with one line when the engine cannot be built or run."""
    plan = json.loads((HERE / "build.json").read_text())
    if arguments[:1] == ["--built-by-trtexec"]:
        point_to_engine()
        took = [trace["latencyMs"] for trace in json.loads((HERE / "times.json").read_text())]
        share = share_by_trtexec(plan)
        found = {"built_by": "trtexec", "onnx": arguments[1], "int8_share": share, "latency_ms": percentiles(took)}
        report({**found, "timed": BY_EVENTS}, plan)
        return
    trt = importlib.import_module(MODULE)
    engine, found = first_that_builds(trt, plan, arguments or candidates(trt))
    (HERE / "model.engine").write_bytes(engine)
    point_to_engine()
    report(found, plan)  # a first time, before the steps that need a GPU
    run = open_engine(HERE)
    found["gpu"] = Driver().name()
    shape = (1, *plan["image"])
    found["int8_share"] = int8_share(trt, *run.__dict__["opened"], shape, plan["macs"])
    found["latency_ms"] = measured(run, np.random.default_rng(0).normal(size=shape).astype(np.float32))
    found["timed"] = BY_CLOCK
    report(found, plan)


def candidates(trt: Any) -> list[str]:
    """The ONNX files, in the order in which to try them.

    TensorRT 10 (10.3 is JetPack 6) introduced strong typing and Q/DQ in float16. Older parsers (8.5 and 8.6, JetPack 5) read
    up to opset 17 and only float32 scales, as in legacy.onnx.
    """
    names = ["model.onnx", "legacy.onnx"] if strongly_typed(trt) else ["legacy.onnx", "model.onnx"]
    return [name for name in names if (HERE / name).exists()]


def first_that_builds(trt: Any, plan: Any, names: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
    """The engine from the first of `names` that the library reads and builds, and a description of it.

    If one file cannot be built, the next one is tried: TensorRT 10.16 refused a network with float16 scales on Orin that it
    built on Thor, where its fusions mixed them with float32 outputs ("Could not infer output types for operation: dequantize",
    NVIDIA/TensorRT#4832).
    """
    refusals = {}
    for name in names:
        old = name == "legacy.onnx"  # float32 outside of its Q/DQ: only a weakly typed build turns that into float16
        types = ", whose floating-point layers run in float32," if old and not hasattr(trt.BuilderFlag, "FP16") else ""
        print(f"building model.engine from {name}{types} with {MODULE} {trt.__version__}", flush=True)
        started = time.perf_counter()
        try:
            engine = build_engine(trt, HERE / name, plan["options"], flags=("INT8", "FP16"), weakly=old)
        except ValueError as refusal:
            refusals[name] = str(refusal)
            print(f"{name} cannot be built: {refusal}", flush=True)
            continue
        return engine, {"built_by": f"{MODULE} {trt.__version__}", "onnx": name, "refused": refusals,
                        "build_seconds": round(time.perf_counter() - started, 1)}  # fmt: skip
    raise ValueError(
        f"no file can be built on this device: {'; '.join(dict.fromkeys(refusals.values())) or 'there is no ONNX file'}"
    )


def measured(run: Any, x: np.ndarray) -> dict[str, float]:
    """Milliseconds from images to logits, copies to the GPU and back included, one query after the other."""
    for _ in range(WARM_UP):
        run(x)
    took = []
    for _ in range(QUERIES):
        started = time.perf_counter()
        run(x)
        took.append(1000 * (time.perf_counter() - started))
    return percentiles(took)


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return {"n": len(milliseconds), "p50": float(p50), "p90": float(p90), "p99": float(p99)}


def share_by_trtexec(plan: Any) -> float | None:
    """The share of INT8 in the layers that trtexec has written; None where it is unknown."""
    try:
        return share_of(layers_of((HERE / "layers.json").read_text()), plan["macs"])
    except Exception:  # its content is not the same in all versions
        return None


def power_mode() -> str | None:
    """What a Jetson says about its power mode, on which the latency depends; None where there is no nvpmodel."""
    if shutil.which("nvpmodel") is None:
        return None
    done = subprocess.run(["nvpmodel", "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return " ".join(done.stdout.decode(errors="replace").split()) or None


def point_to_engine() -> None:
    """Let bundle.json name model.engine, so that verify.py checks it and not the file that it was built from."""
    about = json.loads((HERE / "bundle.json").read_text())
    about["engine"] = "model.engine"
    about["sha256"] = hashlib.sha256((HERE / "model.engine").read_bytes()).hexdigest()
    (HERE / "bundle.json").write_text(json.dumps(about, indent=1))


def report(found: dict[str, Any], plan: Any) -> None:
    """Write device.json; print the measurements."""
    found["nvpmodel"] = power_mode()
    if "latency_ms" in found:
        found["latency_ms"]["batch"] = 1
        print("latency of {n} queries, batch {batch}: p50 {p50:.3f} ms, p90 {p90:.3f} ms, p99 {p99:.3f} ms".format(
            **found["latency_ms"]), flush=True)  # fmt: skip
    if found.get("int8_share") is not None:
        print(f"{100 * found['int8_share']:.1f} % of the multiply-accumulates run in INT8", flush=True)
    (HERE / "device.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, RuntimeError, ImportError) as error:
        sys.exit(str(error))
