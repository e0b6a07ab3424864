"""The chosen ranges equal brute-force searches; observing is streaming and exact."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibration.observe import BINS, extremes, histograms
from calibration.ranges import LEVELS, candidates, select


def slow_entropy(counts: list[float], keep: int) -> float:
    """As Migacz's slides and their reference code describe it, with loops and lists."""
    levels = LEVELS // 2
    p = counts[:keep]
    p[-1] += sum(counts[keep:])
    groups: list[list[int]] = [[] for _ in range(levels)]
    for i in range(keep):
        groups[i * levels // keep].append(i)
    q = [0.0] * keep
    for group in groups:
        filled = [i for i in group if counts[i] > 0]
        for i in filled:
            q[i] = sum(counts[j] for j in group) / len(filled)

    def smoothed(values: list[float]) -> list[float]:
        total = sum(values)
        values = [v / total for v in values]
        empty = [v == 0 for v in values]
        if not any(empty):
            return values
        taken = 1e-4 * sum(empty) / (len(values) - sum(empty))
        moved = [1e-4 if e else v - taken for v, e in zip(values, empty, strict=True)]
        moved = [max(v, 1e-8) for v in moved]
        return [v / sum(moved) for v in moved]

    return sum(a * math.log(a / b) for a, b in zip(smoothed(p), smoothed(q), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_entropy_range_equals_a_brute_force_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_t(3, 40_000))
    counts, _ = np.histogram(values, BINS, (0, values.max()))
    low, high = select(counts, 0.0, float(values.max()), method="entropy")
    costs = {keep: slow_entropy([float(c) for c in counts], keep) for keep in candidates(BINS)}
    best = min(costs, key=lambda keep: costs[keep])
    assert low == 0.0
    assert high == pytest.approx(values.max() * best / BINS)
    assert high < values.max()


def test_mse_range_is_the_best_on_the_values_themselves() -> None:
    rng = np.random.default_rng(1)
    values = np.abs(rng.standard_t(3, 40_000))
    top = float(values.max())
    counts, _ = np.histogram(values, BINS, (0, top))

    def error(bound: float) -> float:
        step = bound / (LEVELS // 2)
        return float(((np.minimum(np.rint(values / step) * step, bound) - values) ** 2).sum())

    _, high = select(counts, 0.0, top, method="mse")
    assert error(high) <= 1.02 * min(error(top * keep / BINS) for keep in candidates(BINS))
    assert error(high) < 0.9 * error(top)


def test_percentile_keeps_that_share_and_max_keeps_all() -> None:
    values = np.random.default_rng(2).normal(size=100_000)
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high))
    a, b = select(counts, low, high, method="percentile", percentile=99.0)
    assert ((values >= a) & (values <= b)).mean() == pytest.approx(0.99, abs=0.002)
    assert select(counts, low, high, method="max") == (low, high)


def test_observing_batch_by_batch_equals_looking_at_everything_at_once() -> None:
    node = helper.make_node("Relu", ["input"], ["logits"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 50]) for name in ("input", "logits")]
    graph = helper.make_graph([node], "relu", value[:1], value[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(proto)
    x = np.random.default_rng(3).normal(size=(64, 50)).astype(np.float32)
    feed = [x[i : i + 16] for i in range(0, 64, 16)]
    limits = extremes(proto, ["input", "logits"], iter(feed))
    assert limits["input"] == (float(x.min()), float(x.max()))
    assert limits["logits"] == (0.0, float(x.max()))
    counts = histograms(proto, limits, iter(feed))
    assert counts["input"].sum() == x.size
    assert counts["input"].max() > 1
    expected, _ = np.histogram(x, BINS, limits["input"])
    assert np.abs(np.cumsum(counts["input"]) - np.cumsum(expected)).max() <= 3  # float32 rounding at bin edges
