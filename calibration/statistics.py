"""FP32 ONNX + images -> the minimum, the maximum and a histogram of every activation tensor that may be quantized.

One pass. The graph itself reduces each tensor to its minimum, its maximum and a sample of its values, so that only these leave
ONNX Runtime. Minimum and maximum are exact. The sample is every `step`-th value of the images taken as one long row; `step` has
no factor in common with the number of values per image, so over the images every position is sampled, and the batch size makes
no difference. Tensors of up to `samples` values per image are counted completely.
"""

import math
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from calibration.place import range_source
from calibration.ranges import Histogram
from calibration.weights import name_of
from core import hardware
from core.graph import copied
from core.ort import open_session

# Operators whose inputs may be quantized. None of them reads the output of a convolution before its ReLU.
READERS = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Sum", "Concat", "Split", "Reshape", "Flatten",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax",
}  # fmt: skip
WORKERS = 2  # batches that run at the same time: a reduction uses one core, however many there are


def observed(proto: ModelProto) -> dict[str, int]:
    """{tensor: values per image}, in order, of the tensors that `READERS` read, each replaced by its `range_source`."""
    shapes = shape_inference.infer_shapes(proto).graph
    known = {v.name: v.type.tensor_type for v in [*shapes.value_info, *shapes.input, *shapes.output]}
    tensors = {name for name, kind in known.items() if kind.elem_type == TensorProto.FLOAT}
    order = [proto.graph.input[0].name]
    for node in proto.graph.node:
        if set(order) & set(node.input):  # it depends on the images
            order += [name for name in node.output if name in tensors]
    read = {range_source(proto, name) for node in proto.graph.node if node.op_type in READERS for name in node.input}
    # A dimension that shape inference does not find counts as 1; its tensor is then sampled more densely.
    return {name: math.prod(d.dim_value or 1 for d in known[name].shape.dim[1:]) for name in order if name in read}


def statistics(
    proto: ModelProto, tensors: dict[str, int], feed: Iterable[np.ndarray], samples: int, first: int = 0
) -> tuple[int, dict[str, Histogram]]:
    """The number of images in `feed` [N, C, H, W], and a histogram of each of `tensors` over all of them.

    `first` is the number of the first image: histograms of parts of the images, merged, are the histogram of all.
    """
    steps = {name: step_for(values, samples) for name, values in tensors.items()}
    image = proto.graph.input[0].name
    # Without memory patterns: the lengths of the samples change, and each would have a plan of its own. It costs no time and
    # saves nearly a fifth of the memory.
    threads = max(1, hardware.cores() // WORKERS)
    session = open_session(with_reductions(proto, steps), threads, memory_pattern=False)
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
            pending.append(pool.submit(run, x, first + seen))
            seen += len(x)
            if len(pending) > WORKERS:
                collect(pending.popleft())
        while pending:
            collect(pending.popleft())
    return seen, histograms


def producer_of(proto: ModelProto, tensor: str) -> str:
    """Which layer computes `tensor`, for messages; nothing for an input of the network."""
    return next((f" of layer {name_of(n)!r} ({n.op_type})" for n in proto.graph.node if tensor in n.output), "")


def step_for(values: int, samples: int) -> int:
    """The largest step that takes at least `samples` of the `values`, or all, and has no factor in common with their number."""
    step = max(1, values // samples)
    while math.gcd(step, values) != 1:
        step -= 1
    return step


def with_reductions(proto: ModelProto, steps: dict[str, int]) -> ModelProto:
    """A copy of `proto` whose outputs are minimum [], maximum [] and sample [k] of each tensor in `steps`.

    Its inputs are those of `proto` and, per tensor, "<tensor>/start" int64 [1]: where in the batch the sample begins.
    """
    extended = copied(proto)
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
    return extended
