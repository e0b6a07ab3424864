"""The values of a tensor, counted batch by batch -> the range that integers represent: max, percentile, entropy or mse.

The levels of an asymmetric grid are spread over the range, wherever it lies. A symmetric grid has as many levels below zero as
above it: half of them are lost on a tensor without negative values.
"""

import math
from typing import Literal

import numpy as np

Method = Literal["max", "percentile", "entropy", "mse"]
Range = tuple[float, float]
BINS = 4096
SMALLEST = -100  # exponent of the narrowest histogram; its bins are 2^-112 wide, which float32 can still invert
LEVELS = 256
CANDIDATES = 64


class Histogram:
    """Minimum, maximum and a histogram of |x| over [0, 2^exponent), whose range doubles until every value fits.

    The width of a bin is a power of two, so doubling the range merges neighbours exactly, and the counts do not depend on the
    order of the values. Between BINS / 2 and BINS of the bins reach up to the largest |x|.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.exponent = SMALLEST
        self.counts = np.zeros(BINS, np.int64)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self.exponent) / BINS

    def add(self, low: float, high: float, sample: np.ndarray) -> None:
        """Count the float32 values `sample` [k] of a tensor whose values reach from `low` to `high`.

        Raises ValueError when one of them is not finite.
        """
        magnitude = np.abs(sample)
        # The sample is checked as well: ONNX Runtime's reductions may ignore a NaN.
        if not all(math.isfinite(value) for value in (low, high, magnitude.max(initial=0))):
            raise ValueError(f"values from {low:g} to {high:g} that are not all finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if largest := max(-low, high):
            self.widen(math.frexp(largest)[1])
        bins = (magnitude * np.float32(1 / self.width)).astype(np.intp)
        self.counts += np.bincount(bins, minlength=BINS)

    def merge(self, other: "Histogram") -> None:
        """Add the counts of `other`, of the same tensor."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.widen(other.exponent)
        other.widen(self.exponent)
        self.counts += other.counts

    def widen(self, exponent: int) -> None:
        """Let the bins reach at least 2^exponent."""
        if exponent > self.exponent:
            merged = min(2 ** (exponent - self.exponent), BINS)
            sums = self.counts.reshape(-1, merged).sum(axis=1)
            self.counts = np.concatenate([sums, np.zeros(BINS - len(sums), np.int64)])
            self.exponent = exponent


def select(histogram: Histogram, *, method: Method, percentile: float = 99.99, symmetric: bool = False) -> Range:
    """The range to clip to, within the [low, high] of `histogram`, for the grid that is `symmetric` or not.

    "percentile" keeps that share of the values; "mse" minimises the squared error of 8-bit quantization; "entropy" the
    Kullback-Leibler divergence to the quantized distribution (Migacz, 8-bit Inference with TensorRT, GTC 2017).
    One-sided tensors (after a ReLU) keep their end at zero; two-sided ones are clipped at the same magnitude on both sides.
    """
    low, high, width = histogram.low, histogram.high, histogram.width
    if method == "max" or high <= low:
        return low, high
    magnitude = histogram.counts[: int(max(-low, high) / width) + 1]

    def clipped(bins: int) -> Range:
        return max(low, -bins * width), min(high, bins * width)

    def cost(bins: int) -> float:
        if method == "mse":
            return rounding_error(histogram, *clipped(bins), symmetric)
        return entropy_cost(magnitude, bins, levels_beside_zero(*clipped(bins), symmetric))

    if method == "percentile":
        return clipped(percentile_bound(magnitude, percentile))
    # With fewer bins than levels, the divergence is zero.
    fewest = levels_beside_zero(low, high, symmetric) if method == "entropy" else LEVELS // 2
    return clipped(min(candidates(fewest, len(magnitude)), key=lambda bins: (cost(bins), -bins)))  # the widest of equal ones


def step_of(low: float, high: float, symmetric: bool) -> float:
    """The distance of the 8-bit levels for values in [low, high]; zero is one of the levels."""
    low, high = min(low, 0.0), max(high, 0.0)
    return max(-low, high) / (LEVELS // 2 - 1) if symmetric else (high - low) / (LEVELS - 1)


def levels_beside_zero(low: float, high: float, symmetric: bool) -> int:
    """The number of levels between zero and the end of [low, high] that is farther from it."""
    low, high = min(low, 0.0), max(high, 0.0)
    return round(LEVELS * (0.5 if symmetric else max(-low, high) / (high - low)))


def rounding_error(histogram: Histogram, low: float, high: float, symmetric: bool = False) -> float:
    """Expected squared error per counted value with 256 levels over [low, high]: of rounding inside, of clipping outside."""
    centres = (np.arange(BINS) + 0.5) * histogram.width
    step = step_of(low, high, symmetric)
    if step == 0:
        return 0.0
    quantized = np.minimum(np.round(centres / step) * step, max(-low, high))
    return float((histogram.counts * (centres - quantized) ** 2).sum() / max(1, histogram.counts.sum()))


def percentile_bound(magnitude: np.ndarray, percentile: float) -> int:
    """The smallest number of bins that hold `percentile` percent of the values."""
    share = np.cumsum(magnitude) / magnitude.sum()
    return int(np.searchsorted(share, percentile / 100)) + 1


def candidates(fewest: int, bins: int) -> list[int]:
    """The numbers of lowest bins to try: evenly spaced from `fewest` to all `bins`."""
    return sorted({int(k) for k in np.linspace(min(fewest, bins), bins, CANDIDATES)})


def entropy_cost(magnitude: np.ndarray, keep: int, levels: int) -> float:
    """KL divergence between the histogram clipped to `keep` bins and its quantization to `levels`, spread over non-empty bins.

    The lowest bin gets the count of its neighbour, as in NVIDIA's implementations: integers represent zero exactly, and the
    many zeros after a ReLU would otherwise shrink the range until every bin has a level of its own.
    """
    magnitude = np.concatenate([magnitude[1:2], magnitude[1:]]) if len(magnitude) > 1 else magnitude
    reference = magnitude[:keep].copy()
    reference[-1] += magnitude[keep:].sum()
    level = np.arange(keep) * levels // keep
    filled = magnitude[:keep] > 0
    totals = np.bincount(level, weights=magnitude[:keep], minlength=levels)
    members = np.bincount(level, weights=filled, minlength=levels)
    quantized = np.where(filled, (totals / np.maximum(members, 1))[level], 0.0)
    if quantized.sum() == 0:
        return float("inf")
    # Smoothed as in the talk's reference: a bin that is empty only in the quantized distribution must have a finite cost.
    p, q = smooth(reference / reference.sum()), smooth(quantized / quantized.sum())
    return float((p * np.log(p / q)).sum())


def smooth(p: np.ndarray, epsilon: float = 1e-4) -> np.ndarray:
    """`p` with a little of its mass moved to the empty bins."""
    empty = p == 0
    if empty.all() or not empty.any():
        return p
    taken = epsilon * empty.sum() / (~empty).sum()
    moved = np.where(empty, epsilon, p - taken)
    moved = np.maximum(moved, epsilon * 1e-4)
    return np.asarray(moved / moved.sum())
