"""One streaming pass with samples finds what looking at every value of every tensor at once finds."""

import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.observe import Calibrate, observe
from calibration.place import edges_to_quantize, range_source
from calibration.ranges import BINS, LEVELS, Histogram, candidates, entropy_cost, select
from calibration.statistics import WORKERS, observed, statistics, step_for
from core.placement import Placement
from data.loader import Split, batches
from tests.conftest import Small

IMAGES = 64


def whole(proto: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of every tensor, one float32 row each: the slow, obvious way."""
    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    del extended.graph.output[:]
    extended.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    return {name: v.ravel() for name, v in zip(names, session.run(None, {"input": x}), strict=True)}


@pytest.fixture(scope="module")
def proto(small: Small) -> onnx.ModelProto:
    return onnx.load(small.onnx / "model.onnx")


@pytest.fixture(scope="module")
def x(small: Small) -> np.ndarray:
    return np.concatenate([x.numpy() for x, _ in batches(Split(small.images, "train"), 16, shuffle=True, limit=IMAGES)])


@pytest.fixture(scope="module")
def exact(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    return whole(proto, list(observed(proto)), x)


@pytest.fixture(scope="module")
def found(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, Histogram]:
    seen, histograms = statistics(proto, observed(proto), iter(np.split(x, 8)), Calibrate().samples)
    assert seen == IMAGES
    return histograms


def kept(values: np.ndarray, percentile: float) -> float:
    """The smallest magnitude such that `percentile` percent of `values` are no larger."""
    return float(np.sort(np.abs(values))[math.ceil(values.size * percentile / 100) - 1])


def error(values: np.ndarray, bound: float) -> float:
    """Mean squared error of asymmetric 8-bit quantization of `values`, clipped to [-bound, bound]."""
    low, high = max(min(float(values.min()), 0), -bound), min(float(values.max()), bound)
    step = (high - low) / 255
    rounded = np.clip(np.rint(values.astype(np.float64) / step) * step, low, high)
    return float(((rounded - values) ** 2).mean())


def test_extremes_and_percentiles_are_those_of_all_values(found: dict[str, Histogram], exact: dict[str, np.ndarray]) -> None:
    assert len(exact) > 20
    for name, values in exact.items():
        histogram, low, high = found[name], float(values.min()), float(values.max())
        assert histogram.counts.sum() == values.size, name  # small tensors are counted completely
        assert select(histogram, method="max") == pytest.approx(
            (low, high), rel=1e-4, abs=1e-5
        )  # other kernels, other rounding
        for percentile in (99.99, 99.0):
            bound = kept(values, percentile)
            expected = (max(low, -bound), min(high, bound))
            assert select(histogram, method="percentile", percentile=percentile) == pytest.approx(expected, abs=histogram.width)


def test_mse_range_is_within_two_percent_of_the_smallest_error(
    found: dict[str, Histogram], exact: dict[str, np.ndarray]
) -> None:
    for name, values in exact.items():
        bound = max(np.abs(select(found[name], method="mse")))
        top = float(np.abs(values).max())
        assert error(values, bound) <= 1.02 * min(error(values, b) for b in np.linspace(top / 32, top, 32)), name


def test_entropy_range_is_one_that_exact_histograms_give(found: dict[str, Histogram], exact: dict[str, np.ndarray]) -> None:
    """Between those of 2048, 3000 and 4096 bins, give or take 5 % of the maximum: the method itself depends on the bins."""
    for name, values in exact.items():
        magnitude = np.abs(values)
        top = float(magnitude.max())
        levels = LEVELS if values.min() >= 0 else LEVELS // 2
        references = []
        for bins in (2048, 3000, 4096):
            counts, _ = np.histogram(magnitude, bins, (0, top))
            costs = {keep: entropy_cost(counts, keep, levels) for keep in candidates(levels, bins)}
            references.append(min(costs, key=lambda keep: (costs[keep], -keep)) / bins)
        chosen = max(np.abs(select(found[name], method="entropy"))) / top
        assert min(references) - 0.05 <= chosen <= max(references) + 0.05, name


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_sample_is_every_nth_value_whatever_the_batches(
    batch: int, proto: onnx.ModelProto, x: np.ndarray, exact: dict[str, np.ndarray]
) -> None:
    sizes = observed(proto)
    _, histograms = statistics(proto, sizes, (x[i : i + batch] for i in range(0, IMAGES, batch)), 100)
    for name, values in exact.items():
        step, histogram = step_for(sizes[name], 100), histograms[name]
        expected, _ = np.histogram(np.abs(values[::step]), BINS, (0, histogram.width * BINS))
        assert histogram.counts.sum() == expected.sum(), name
        # Kernels chosen for another batch round differently, and then some values are in the next bin; the input's never are.
        moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max()
        assert moved <= (0 if name == "input" else 2 + 0.01 * expected.sum()), name
        assert (histogram.low, histogram.high) == pytest.approx((values.min(), values.max()), rel=1e-4, abs=1e-5)
    assert step_for(sizes["input"], 100) > 1


def test_a_range_from_a_sample_keeps_the_share_it_should(
    proto: onnx.ModelProto, x: np.ndarray, exact: dict[str, np.ndarray]
) -> None:
    _, histograms = statistics(proto, observed(proto), iter(np.split(x, 8)), 500)
    for name, values in exact.items():
        low, high = select(histograms[name], method="percentile", percentile=99.0)
        inside = ((values >= low) & (values <= high)).mean()
        assert inside == pytest.approx(0.99, abs=0.004), name


@pytest.mark.parametrize("shape", [(64, 112, 112), (61, 56, 56), (256, 56, 56), (3, 224, 224), (2048, 7, 7), (24, 448, 448)])
def test_the_sampling_step_meets_every_column_row_and_channel_evenly(shape: tuple[int, int, int]) -> None:
    values = math.prod(shape)
    step = step_for(values, 16384)
    assert len(range(0, values, step)) >= min(values, 16384)
    assert step > 1 or values < 2 * 16384
    for axis, met in enumerate(np.unravel_index(np.arange(0, values, step), shape)):
        assert len(np.unique(met)) == shape[axis], "in the first image"
    positions = np.arange(0, values * step, step) % values
    assert (np.bincount(positions, minlength=values) == 1).all(), "in `step` images, every position once"


def block() -> onnx.ModelProto:
    """What the family needs besides resnet18: Res2Net's split and concat, a gate, average pooling, flatten."""
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["a"]),
        helper.make_node("Split", ["a"], ["s1", "s2"], axis=1, num_outputs=2),
        helper.make_node("Conv", ["s2", "half"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Concat", ["s1", "r2"], ["cat"], axis=1),
        helper.make_node("Sigmoid", ["cat"], ["gate"]),
        helper.make_node("Mul", ["cat", "gate"], ["scaled"]),
        helper.make_node("MaxPool", ["scaled"], ["max"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("AveragePool", ["max"], ["mean"], kernel_shape=[4, 4]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc"], ["logits"]),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 1, 3, 3), "half": (4, 4, 3, 3), "fc": (8, 10)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8])]
    ends += [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph(nodes, "block", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def test_everything_that_any_placement_asks_for_is_observed_and_nothing_that_none_can(proto: onnx.ModelProto) -> None:
    for network in (proto, block()):
        tensors = set(observed(network))
        for residual in ("all", "shortcut"):
            for pool in (True, False):
                placement = Placement(activation="int8", symmetric=True, bias="float", residual=residual, pool=pool)
                wanted = {range_source(network, name) for name in edges_to_quantize(network, placement)}
                assert wanted <= tensors
        constants = {i.name for i in network.graph.initializer}
        before_relu = {node.input[0] for node in network.graph.node if node.op_type == "Relu"}
        assert not tensors & (constants | before_relu | {"logits"})
    sizes = {"input": 64, "a": 512, "r2": 256, "cat": 512, "gate": 512, "scaled": 512, "mean": 8}
    assert observed(block()) == sizes


def test_only_a_few_batches_are_held_however_many_there_are(proto: onnx.ModelProto, x: np.ndarray) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def feed() -> Iterator[np.ndarray]:
        nonlocal most
        for i in range(40):
            batch = x[i : i + 1].copy()
            alive.append(weakref.ref(batch))
            most = max(most, sum(ref() is not None for ref in alive))
            yield batch

    seen, _ = statistics(proto, observed(proto), feed(), 500)
    assert seen == 40
    assert most <= WORKERS + 3


def test_weights_that_are_not_numbers_are_refused_in_one_line(small: Small, proto: onnx.ModelProto, tmp_path: Path) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(proto)
    weight = next(i for i in broken.graph.initializer if len(i.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(np.full(list(weight.dims), np.nan, np.float32), weight.name))
    onnx.save(broken, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"activation .* not all finite.*weights") as refusal:
        observe(Calibrate(images=16), tmp_path, model=tmp_path, images=small.images)
    assert "\n" not in str(refusal.value)
