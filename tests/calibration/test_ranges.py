"""The histogram is exact whatever the order; the chosen ranges equal brute-force searches."""

import math

import numpy as np
import pytest

from calibration.ranges import BINS, LEVELS, Histogram, candidates, rounding_error, select


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(float(part.min()), float(part.max()), part.astype(np.float32))
    return histogram


def slow_entropy(counts: list[float], keep: int) -> float:
    """As Migacz's slides and their reference code describe it, with loops and lists."""
    levels = LEVELS // 2
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


@pytest.mark.parametrize("seed", range(3))
def test_entropy_range_equals_a_brute_force_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_t(3, 40_000)).astype(np.float32)
    top = float(values.max())
    edge = 2.0 ** math.ceil(math.log2(top))
    used = math.floor(top * BINS / edge) + 1
    counts, _ = np.histogram(values, BINS, (0, edge))
    low, high = select(counted(values), method="entropy")
    costs = {keep: slow_entropy([float(c) for c in counts[:used]], keep) for keep in candidates(used)}
    best = min(costs, key=lambda keep: costs[keep])
    assert low == float(values.min())  # one-sided: clipping is from above
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


def test_mse_range_is_the_best_on_the_values_themselves() -> None:
    values = np.abs(np.random.default_rng(1).standard_t(3, 40_000)).astype(np.float32)
    top = float(values.max())

    def error(bound: float) -> float:
        step = bound / (LEVELS // 2)
        return float(((np.minimum(np.rint(values / step) * step, bound) - values) ** 2).sum())

    _, high = select(counted(values), method="mse")
    assert error(high) <= 1.02 * min(error(bound) for bound in np.linspace(top / 32, top, 64))
    assert error(high) < 0.9 * error(top)


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
