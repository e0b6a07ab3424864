"""Files -> engines opened on one runtime: ours as the pipeline opens them, those of peers with the same properties."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import TOOLS
from benchmarks.table import OURS
from benchmarks.turns import Row, Runner
from calibration.observe import observe
from calibration.place import place_qdq
from core import hardware
from core.cache import Artifact, Stages
from core.engine_name import EngineName
from core.ort import open_session
from core.profile import here
from core.text import one_line
from export import targets
from export.targets import onnxruntime, openvino
from pipeline.builder import EngineBuilder
from pipeline.recipe import Recipe

Made = tuple[Path, float] | str  # a tool's file and its seconds, or why there is none
DEFAULT_HINT = ("openvino", "NNCF, mixed")  # also has a row with OpenVINO's default type of floats


def rows_of(recipe: Recipe, step: Stages, runtime: str, model: Artifact, images: Artifact, files: dict[str, Made]) -> list[Row]:
    """FP32 and ours as the pipeline builds and opens them, and every file of a peer that this runtime is for."""
    target, threads = targets.get(runtime), recipe.measure.threads or hardware.cores()
    placement = target.placement(here())
    assert placement is not None
    ranges = step(observe, recipe.calibrate, model=model, images=images)
    int8 = step(place_qdq, placement, label=runtime, model=model, ranges=ranges)
    spent = ranges.manifest["seconds"] + int8.manifest["seconds"]
    rows = []
    builder = EngineBuilder.of(recipe, step, runtime, images)
    for name, form, source, seconds in (("FP32", "fp32", model, None), (OURS, "int8", int8, spent)):
        engine = builder.build(EngineName("student", form, "", runtime), source)
        share = None if name == "FP32" else engine.metrics["int8_share"]
        rows.append(Row(name, target.load(engine.path, threads), int8_share=share, seconds=seconds))
    for tool, made in files.items():
        if compared_on(runtime, tool):
            found = [Row(tool, why=made)] if isinstance(made, str) else opened(runtime, tool, *made, threads)
            rows += marked(found, runtime, tool)
    return rows


def compared_on(runtime: str, tool: str) -> bool:
    """Whether files of `tool` are opened on `runtime`: those placed for it, and those placed for a runtime outside of OPEN."""
    return TOOLS[tool].placed_for not in OPEN.keys() - {runtime}


def marked(rows: list[Row], runtime: str, tool: str) -> list[Row]:
    """`rows` of files of `tool`, with the runtime that they are placed for where it is not `runtime`."""
    for row in rows:
        row.placed_for = TOOLS[tool].placed_for if TOOLS[tool].placed_for != runtime else ""
    return rows


def opened(runtime: str, name: str, file: Path, seconds: float, threads: int) -> list[Row]:
    """The rows of a peer's file: one, or two if the runtime's default settings are also measured."""
    runner, int8_share = OPEN[runtime]
    try:
        rows = [Row(name, runner(file, threads), int8_share=int8_share(file), seconds=seconds)]
        return rows + ([by_default(name, file, threads)] if (runtime, name) == DEFAULT_HINT else [])
    except Exception as error:  # a runtime may raise anything for a peer's file
        return [Row(name, why=f"{runtime} cannot open it: {one_line(error)[:100]}")]


def onnxruntime_runner(file: Path, threads: int) -> Runner:
    session = open_session(file, threads)
    return lambda x: np.asarray(session.run(None, {"input": x})[0])


def openvino_runner(file: Path, threads: int) -> Runner:
    return per_batch(lambda batch: openvino.compiled(file, batch, threads))


def per_batch(compiled: Callable[[int], Any]) -> Runner:
    """Like openvino's own `load`: compiled once for every number of images."""
    requests: dict[int, Any] = {}

    def run(x: np.ndarray) -> np.ndarray:
        if len(x) not in requests:
            requests[len(x)] = compiled(len(x)).create_infer_request()
        return np.array(requests[len(x)].infer({0: x})[0])

    return run


def by_default(name: str, file: Path, threads: int) -> Row:
    """The file with OpenVINO's default type of floats: bfloat16 if the processor supports it."""
    core = importlib.import_module("openvino").Core()

    def compiled(batch: int) -> Any:
        network = core.read_model(file)
        network.reshape([batch, *list(network.input(0).get_partial_shape())[1:]])
        return core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads})

    floats = compiled(1).get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return Row(f"{name}, opened as by default: floats in {floats}", per_batch(compiled))


OPEN: dict[str, tuple[Callable[[Path, int], Runner], Callable[[Path], float]]] = {
    "onnxruntime": (onnxruntime_runner, onnxruntime.int8_share),
    "openvino": (openvino_runner, openvino.int8_share),
}
