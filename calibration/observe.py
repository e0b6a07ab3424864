"""FP32 ONNX + training images -> ranges.json: the range of every activation tensor that a quantizer may want.

By the method "best" also equalization.safetensors and corrections.safetensors, where scaling channels and correcting biases
help (choose.py, equalize.py, correct.py). With the former beside them, the ranges are those of the equalized network.

One pass. The graph itself reduces each tensor to its minimum, its maximum and a sample of its values, so that only these leave
ONNX Runtime. Minimum and maximum are exact. The sample is every `step`-th value of the images taken as one long row; `step` has
no factor in common with the number of values per image, so that in the course of the images every position is looked at, and
the batches make no difference. Tensors of up to `samples` values per image are counted completely.
"""

import itertools
import json
import math
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from pydantic import Field
from safetensors.numpy import save_file

from calibration.choose import Choice, Form, choose, counted
from calibration.correct import copied
from calibration.equalize import EQUALIZATION, equalize, pairs_of, peaks_of, scales_for, with_twins
from calibration.place import CORRECTIONS, range_source
from calibration.ranges import Histogram, Method, select
from calibration.weights import name_of
from core import hardware
from core.config import Config
from data.loader import Split, batches

# What a quantizer may feed with integers. A convolution's output before its ReLU is read by none of these.
READERS = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Sum", "Concat", "Split", "Reshape", "Flatten",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax",
}  # fmt: skip
CORRECTING = 32  # images that bias corrections are measured on: 128 are no better on the whole
PEEKING = 64  # images that the scales of equalization are taken from: any scales are right, these are to be good
WORKERS = 2  # runs side by side: reductions use one core, however many there are
MEMORY = 128 * 2**20  # bytes of observed activations per run


class Calibrate(Config):
    """`images` training images, a random choice; `percentile` is used by the method of that name.

    "best" is whichever method's ranges change the answers least about up to `held_out` images that did not calibrate. It alone
    corrects biases and, if `equalize`, scales channels between layers, both where the answers then change less.
    At most `batch_size` images at a time, fewer where they are large. A histogram counts `samples` values of a tensor per
    image or up to twice as many; minimum and maximum look at all.
    """

    method: Literal[Method, "best"] = "best"
    percentile: float = 99.99
    images: int = Field(default=512, gt=0)
    held_out: int = Field(default=256, gt=0)
    batch_size: int = Field(default=16, gt=0)
    samples: int = Field(default=16384, gt=0)
    equalize: bool = True


def observe(config: Calibrate, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Write {tensor: [low, high]} for the float activations of `model` that `READERS` read to `out/ranges.json`.

    Raises ValueError when one has values that are not finite.
    """
    proto = onnx.load(model / "model.onnx")
    tensors = observed(proto)
    batch_size = min(config.batch_size, max(1, MEMORY // (4 * sum(tensors.values()))))
    scales: dict[str, np.ndarray] = {}
    if config.method == "best" and config.equalize and pairs_of(proto):
        scales = scales_for(proto, peaks_of(proto, first_images(images, batch_size, min(config.images, PEEKING))))
    watched, twins = with_twins(proto, scales)
    feed = (x.numpy() for x, _ in batches(Split(images, "train"), batch_size, shuffle=True, limit=config.images))
    seen, found = statistics(watched, tensors | {twin: tensors[name] for name, twin in twins.items()}, feed, config.samples)
    plain = Form(proto, {name: found[name] for name in tensors})
    metrics = {"method": config.method, "images": seen, "tensors": len(tensors)}
    if config.method == "best":
        equalized = Form(copied(proto), {name: found[twins.get(name, name)] for name in tensors}) if twins else None
        if equalized:
            equalize(equalized.proto, scales)
        chosen, about = best(config, plain, equalized, images, batch_size, seen)
        metrics |= about | {"equalized": len(scales) if chosen.equalized else 0}
        ranges = chosen.ranges
        if chosen.equalized:
            save_file(scales, out / EQUALIZATION)
        if chosen.corrections:
            save_file(chosen.corrections, out / CORRECTIONS)
    else:
        ranges = {name: select(h, method=config.method, percentile=config.percentile) for name, h in plain.histograms.items()}
    (out / "ranges.json").write_text(json.dumps(ranges, indent=0))
    return metrics


def best(
    config: Calibrate, plain: Form, equalized: Form | None, images: Path, batch_size: int, seen: int
) -> tuple[Choice, dict[str, Any]]:
    """What `choose` chose, and what is worth telling of it."""
    began = time.perf_counter()
    split, held_out = held_out_images(config, images, batch_size, seen)
    calibrating = first_images(images, batch_size, min(seen, CORRECTING))
    chosen = choose(plain, equalized, config.percentile, held_out, calibrating)
    return chosen, {
        "chosen": chosen.name,
        "methods": counted(chosen.methods),
        "corrected": bool(chosen.corrections),
        "divergence": chosen.divergences,
        "held_out": {"split": split, "images": sum(map(len, held_out))},
        "choosing_seconds": round(time.perf_counter() - began, 3),
    }


def first_images(images: Path, batch_size: int, limit: int) -> list[np.ndarray]:
    """The first `limit` of the images that calibrate, in batches."""
    return [x.numpy() for x, _ in batches(Split(images, "train"), batch_size, shuffle=True, limit=limit)]


def held_out_images(config: Calibrate, images: Path, batch_size: int, seen: int) -> tuple[str, list[np.ndarray]]:
    """Which split they are from, and batches of images that did not calibrate: of `val`, else of `train`.

    Where every training image is one of the `seen` that did, those.
    """
    split = Split(images, "train")
    wanted = min(config.held_out, max(batch_size, MEMORY // (4 * math.prod(split.dataset["input_shape"]))))
    if split.dataset["splits"].get("val"):
        return "val", [x.numpy() for x, _ in batches(Split(images, "val"), batch_size, shuffle=True, limit=wanted)]
    # The same order, and what comes behind those that calibrated.
    first = seen if seen < len(split) - batch_size else 0
    feed = batches(split, batch_size, shuffle=True, limit=first + wanted)
    return "train", [x.numpy() for x, _ in itertools.islice(feed, first // batch_size, None)]


def observed(proto: onnx.ModelProto) -> dict[str, int]:
    """{tensor: values per image}, in order: what `READERS` read, or rather the tensors whose ranges that shares."""
    shapes = onnx.shape_inference.infer_shapes(proto).graph
    known = {v.name: v.type.tensor_type for v in [*shapes.value_info, *shapes.input, *shapes.output]}
    tensors = {name for name, kind in known.items() if kind.elem_type == TensorProto.FLOAT}
    order = [proto.graph.input[0].name]
    for node in proto.graph.node:
        if set(order) & set(node.input):  # it depends on the images
            order += [name for name in node.output if name in tensors]
    read = {range_source(proto, name) for node in proto.graph.node if node.op_type in READERS for name in node.input}
    # A dimension that shape inference cannot tell counts as 1; its tensor is then sampled more densely.
    return {name: math.prod(d.dim_value or 1 for d in known[name].shape.dim[1:]) for name in order if name in read}


def statistics(
    proto: onnx.ModelProto, tensors: dict[str, int], feed: Iterable[np.ndarray], samples: int
) -> tuple[int, dict[str, Histogram]]:
    """How many images `feed` [N, C, H, W] had, and a histogram of each of `tensors` over all of them."""
    steps = {name: step_for(values, samples) for name, values in tensors.items()}
    image = proto.graph.input[0].name
    session = session_with(proto, steps)
    histograms = {name: Histogram() for name in tensors}

    def run(x: np.ndarray, first: int) -> list[np.ndarray]:
        """The statistics of the batch whose first image is number `first`."""
        starts = {f"{name}/start": np.array([-first * values % steps[name]]) for name, values in tensors.items()}
        return list(session.run(None, {image: x, **starts}))

    def collect(done: Future[list[np.ndarray]]) -> None:
        parts = iter(done.result())
        for (name, histogram), low, high, sample in zip(histograms.items(), parts, parts, parts, strict=True):
            try:
                histogram.add(float(low), float(high), sample)
            except ValueError as error:
                raise ValueError(
                    f"activation {name!r}{producer_of(proto, name)} has {error}, expected numbers: check the network's weights"
                ) from error

    seen = 0
    pending: deque[Future[list[np.ndarray]]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for x in feed:
            pending.append(pool.submit(run, x, seen))
            seen += len(x)
            if len(pending) > WORKERS:
                collect(pending.popleft())
        while pending:
            collect(pending.popleft())
    return seen, histograms


def producer_of(proto: onnx.ModelProto, tensor: str) -> str:
    """Which layer computes `tensor`, for messages; nothing for an input of the network."""
    return next((f" of layer {name_of(n)!r} ({n.op_type})" for n in proto.graph.node if tensor in n.output), "")


def step_for(values: int, samples: int) -> int:
    """The largest step that finds `samples` among `values` and meets every position in time."""
    step = max(1, values // samples)
    while math.gcd(step, values) != 1:
        step -= 1
    return step


def session_with(proto: onnx.ModelProto, steps: dict[str, int]) -> ort.InferenceSession:
    """A session over `proto` that answers minimum [], maximum [] and sample [k] of each tensor in `steps`.

    Its inputs are those of `proto` and, per tensor, "<tensor>/start" int64 [1]: where in the batch the sample begins.
    """
    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    graph = extended.graph
    del graph.output[:]
    constants = {"flat": [-1], "end": [np.iinfo(np.int64).max], "axis": [0]}
    for name, step in steps.items():
        constants[f"{name}/step"] = [step]
        graph.input.append(helper.make_tensor_value_info(f"{name}/start", TensorProto.INT64, [1]))
        slicing = [f"{name}/flat", f"{name}/start", "observe/end", "observe/axis", f"observe/{name}/step"]
        graph.node.extend([
            helper.make_node("ReduceMin", [name], [f"{name}/low"], keepdims=0),
            helper.make_node("ReduceMax", [name], [f"{name}/high"], keepdims=0),
            helper.make_node("Reshape", [name, "observe/flat"], [f"{name}/flat"]),
            helper.make_node("Slice", slicing, [f"{name}/sample"]),
        ])  # fmt: skip
        for part in ("low", "high", "sample"):
            graph.output.append(helper.make_tensor_value_info(f"{name}/{part}", TensorProto.FLOAT, None))
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), f"observe/{k}") for k, v in constants.items())
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = max(1, hardware.cores() // WORKERS)
    # Saves nearly a fifth of the memory and costs no time: samples of changing lengths would each have a plan of their own.
    options.enable_mem_pattern = False
    return ort.InferenceSession(extended.SerializeToString(), options, providers=["CPUExecutionProvider"])
