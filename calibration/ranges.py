"""A histogram -> the range worth representing: max, percentile, entropy or mean squared error."""

from typing import Literal

import numpy as np

Method = Literal["max", "percentile", "entropy", "mse"]
LEVELS = 256
CANDIDATES = 64


def select(counts: np.ndarray, low: float, high: float, *, method: Method, percentile: float = 99.99) -> tuple[float, float]:
    """The clipping range within [low, high], given the `counts` [bins] of the values between them.

    "percentile" keeps that share of the values; "mse" minimises the squared error of 8-bit quantization; "entropy" the
    Kullback-Leibler divergence to the quantized distribution (Migacz, 8-bit Inference with TensorRT, GTC 2017).
    One-sided tensors (after a ReLU) keep their end at zero; two-sided ones are clipped at the same magnitude on both sides.
    """
    if method == "max" or high <= low or counts.sum() == 0:
        return low, high
    magnitude, edge = fold(counts, low, high)
    if method == "percentile":
        bound = percentile_bound(magnitude, edge, percentile)
    else:
        cost = entropy_cost if method == "entropy" else squared_error
        bounds = candidates(len(magnitude))
        bound = min(bounds, key=lambda keep: (cost(magnitude, keep), -keep)) * edge / len(magnitude)
    return max(low, -bound), min(high, bound)


def fold(counts: np.ndarray, low: float, high: float) -> tuple[np.ndarray, float]:
    """The histogram of |x| over [0, edge], edge = max(|low|, |high|), with as many bins as `counts` has."""
    edge = max(abs(low), abs(high))
    centres = np.abs(low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts))
    bins = np.minimum((centres * (len(counts) / edge)).astype(int), len(counts) - 1)
    return np.bincount(bins, weights=counts, minlength=len(counts)), edge


def candidates(bins: int) -> list[int]:
    """How many of the lowest bins a candidate keeps: evenly spaced from half of LEVELS to all."""
    return sorted({int(k) for k in np.linspace(LEVELS // 2, bins, CANDIDATES)})


def percentile_bound(magnitude: np.ndarray, edge: float, percentile: float) -> float:
    """The smallest bin edge below which `percentile` percent of the values lie."""
    share = np.cumsum(magnitude) / magnitude.sum()
    return float((np.searchsorted(share, percentile / 100) + 1) * edge / len(magnitude))


def squared_error(magnitude: np.ndarray, keep: int) -> float:
    """Expected squared error, in bins², of rounding within `keep` bins to LEVELS / 2 steps and clipping beyond."""
    centres = np.arange(len(magnitude)) + 0.5
    step = keep / (LEVELS / 2)
    quantized = np.minimum(np.round(centres / step) * step, keep)
    return float((magnitude * (centres - quantized) ** 2).sum())


def entropy_cost(magnitude: np.ndarray, keep: int) -> float:
    """KL divergence between the clipped histogram and its LEVELS / 2-level quantization, spread over non-empty bins."""
    reference = magnitude[:keep].copy()
    reference[-1] += magnitude[keep:].sum()
    level = np.arange(keep) * (LEVELS // 2) // keep
    filled = magnitude[:keep] > 0
    totals = np.bincount(level, weights=magnitude[:keep], minlength=LEVELS // 2)
    members = np.bincount(level, weights=filled, minlength=LEVELS // 2)
    quantized = np.where(filled, (totals / np.maximum(members, 1))[level], 0.0)
    if quantized.sum() == 0:
        return float("inf")
    # Smoothed as in the talk's reference: a bin that the quantized distribution misses must cost much, not infinitely.
    p, q = smooth(reference / reference.sum()), smooth(quantized / quantized.sum())
    return float((p * np.log(p / q)).sum())


def smooth(p: np.ndarray, epsilon: float = 1e-4) -> np.ndarray:
    """Move a little mass to the empty bins."""
    empty = p == 0
    if empty.all() or not empty.any():
        return p
    taken = epsilon * empty.sum() / (~empty).sum()
    moved = np.where(empty, epsilon, p - taken)
    moved = np.maximum(moved, epsilon * 1e-4)
    return np.asarray(moved / moved.sum())
