"""The histogram is exact whatever the order; the chosen ranges equal brute-force searches."""

import math

import numpy as np
import pytest

from calibration.place import NEUTRAL, activation_scale
from calibration.ranges import BINS, Histogram, candidates, rounding_error, select, step_of
from core.placement import Placement

GRIDS = {
    "uint8": NEUTRAL,
    "int8": NEUTRAL.model_copy(update={"activation": "int8"}),
    "symmetric uint8": NEUTRAL.model_copy(update={"symmetric": True}),
    "symmetric int8": NEUTRAL.model_copy(update={"activation": "int8", "symmetric": True}),
}


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(float(part.min()), float(part.max()), part.astype(np.float32))
    return histogram


def through(values: np.ndarray, low: float, high: float, placement: Placement) -> np.ndarray:
    """`values` after a round trip through the integers of `placement` for the range [low, high]."""
    scale, zero = activation_scale(low, high, placement)
    first, last = (0, 255) if placement.activation == "uint8" else (-128, 127)
    integers = np.clip(np.rint(values / np.float64(scale)) + zero, first, last)
    return np.asarray((integers - zero) * np.float64(scale))


def slow_entropy(counts: list[float], keep: int, levels: int) -> float:
    """As Migacz's slides and their reference code describe it, with loops and lists."""
    counts = [counts[1], *counts[1:]]
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


@pytest.mark.parametrize(
    ("sided", "symmetric", "levels"),
    [("one", False, 256), ("one", True, 128), ("two", False, 128), ("two", True, 128)],
)
def test_entropy_range_equals_a_brute_force_search(sided: str, symmetric: bool, levels: int) -> None:
    rng = np.random.default_rng(levels)
    values = np.abs(rng.standard_t(3, 40_000)).astype(np.float32)
    top = float(values.max())
    values = np.concatenate([values, [-top]]) if sided == "two" else values
    edge = 2.0 ** math.ceil(math.log2(top))
    used = math.floor(top * BINS / edge) + 1
    counts, _ = np.histogram(np.abs(values), BINS, (0, edge))
    low, high = select(counted(values), method="entropy", symmetric=symmetric)
    costs = {keep: slow_entropy([float(c) for c in counts[:used]], keep, levels) for keep in candidates(levels, used)}
    best = min(costs, key=lambda keep: costs[keep])
    assert low == (-high if sided == "two" else float(values.min()))
    assert high == pytest.approx(edge * best / BINS)
    assert high < top


def test_zeros_behind_a_relu_do_not_move_the_entropy_range() -> None:
    values = np.abs(np.random.default_rng(4).standard_t(3, 40_000)).astype(np.float32)
    zeros = np.zeros(60_000, np.float32)
    assert select(counted(values, zeros), method="entropy") == (0.0, select(counted(values), method="entropy")[1])


@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (0.0, 20.0), (-3.0, 3.0)])
def test_rounding_error_is_that_of_256_levels_on_the_values_themselves(low: float, high: float) -> None:
    values = np.random.default_rng(5).standard_t(4, 40_000).astype(np.float32)
    values = np.abs(values) if low == 0 else values
    step = (high - low) / 255
    rounded = np.clip(np.rint(np.clip(values, low, high) / step) * step, low, high)
    expected = float(((rounded.astype(np.float64) - values) ** 2).mean())
    assert rounding_error(counted(values), low, high) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shift", [0.0, 0.02, 1.0], ids=["one-sided", "nearly one-sided", "two-sided"])
def test_mse_range_is_the_best_through_the_integers_themselves(shift: float, grid: str) -> None:
    rng = np.random.default_rng(1)
    values = np.abs(rng.standard_t(3, 40_000)).astype(np.float32)
    values[rng.random(len(values)) < shift / 2] *= -1
    values = np.maximum(values, values.min() if shift == 1 else -0.3 * (shift > 0))
    lowest, highest, placement = float(values.min()), float(values.max()), GRIDS[grid]
    top = max(-lowest, highest)

    def error(bound: float) -> float:
        return float(((through(values, max(lowest, -bound), min(highest, bound), placement) - values) ** 2).mean())

    chosen = select(counted(values), method="mse", symmetric=placement.symmetric)
    bound = max(-chosen[0], chosen[1])
    assert chosen == (max(lowest, -bound), min(highest, bound))
    assert error(bound) <= 1.02 * min(error(bound) for bound in np.linspace(top / 32, top, 128))
    assert error(bound) < 0.96 * error(top)


def test_a_one_sided_tensor_is_clipped_less_where_it_has_all_levels() -> None:
    values = np.abs(np.random.default_rng(1).standard_t(3, 40_000)).astype(np.float32)
    for method in ("mse", "entropy"):
        asymmetric, symmetric = (
            select(counted(values), method=method, symmetric=grid)[1]  # type: ignore[arg-type]
            for grid in (False, True)
        )
        assert symmetric < asymmetric < values.max()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (-3.0, 3.0), (-0.2, 3.0), (1.0, 3.0), (-2.0, -1.0)])
def test_the_levels_are_those_of_the_integers(low: float, high: float, grid: str) -> None:
    values = np.linspace(low, high, 5000)
    found = np.unique(through(values, low, high, GRIDS[grid]))
    assert np.diff(found) == pytest.approx(step_of(low, high, GRIDS[grid].symmetric), rel=1e-4)


def test_percentile_keeps_that_share_and_max_keeps_all() -> None:
    values = np.random.default_rng(2).normal(size=100_000).astype(np.float32)
    a, b = select(counted(values), method="percentile", percentile=99.0)
    assert a == -b  # two-sided: the same magnitude on both sides
    assert ((values >= a) & (values <= b)).mean() == pytest.approx(0.99, abs=0.002)
    assert select(counted(values), method="max") == (float(values.min()), float(values.max()))


def test_doubling_while_values_stream_by_equals_counting_at_once_with_the_final_bins() -> None:
    rng = np.random.default_rng(3)
    parts = [np.zeros(5, np.float32)]
    parts += [rng.normal(scale=scale, size=999).astype(np.float32) for scale in (1e-30, 1e-3, 0.1, 7.0, 0.2, 300.0, 1.0)]
    parts.append(np.array([-1024.0], np.float32))  # on the edge of a range of 2^10, so it needs 2^11
    together = np.concatenate(parts)
    expected, _ = np.histogram(np.abs(together).astype(np.float64), BINS, (0, 2048))
    for order in (parts, parts[::-1]):
        histogram = counted(*order)
        assert (histogram.low, histogram.high) == (-1024.0, float(together.max()))
        assert histogram.width == 2048 / BINS
        assert (histogram.counts == expected).all()


@pytest.mark.parametrize("top", [1.0, 1.001, 1.999])
def test_at_least_2048_bins_reach_up_to_the_largest_value(top: float) -> None:
    histogram = counted(np.linspace(0, top, 100, dtype=np.float32))
    assert 2048 <= top / histogram.width < BINS


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
def test_tensors_without_a_spread_have_a_range(method: str) -> None:
    for values in ([0.0, 0.0], [3.0, 3.0], [-1e-38, 0.0]):
        low, high = select(counted(np.array(values, np.float32)), method=method)  # type: ignore[arg-type]
        assert (low, high) == pytest.approx((min(values), max(values)), abs=1e-30)


def test_values_that_are_not_finite_are_refused() -> None:
    for low, high, value in ((0.0, np.inf, 1.0), (-np.inf, 1.0, 1.0), (0.0, 1.0, np.nan)):
        with pytest.raises(ValueError, match="not all finite"):
            Histogram().add(low, high, np.array([value], np.float32))
