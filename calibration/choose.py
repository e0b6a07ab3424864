"""Histograms + held-out images -> the ranges that change the logits least.

The same measure decides whether equalization and bias correction help.

Ranges are chosen for two grids: the integers of a symmetric grid are farther apart, so that clipping more may pay there.

Complete sets of ranges are compared, not single tensors. Choosing tensor by tensor on the same 256 images overfits them (their
KL divergence fell by a quarter, that of other images by a tenth or not at all) and takes minutes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from calibration.correct import corrections
from calibration.place import NEUTRAL, quantize
from calibration.ranges import Histogram, Range, rounding_error, select
from calibration.session import divergence, predict_logits
from core.graph import copied
from core.placement import Placement

PER_TENSOR = "per tensor"
SYMMETRIC_GRID = NEUTRAL.model_copy(update={"symmetric": True})
# Equalization is used only if it reduces the divergence to at most this share. Where the channels of a network differ little,
# it changes the divergence on 256 images by up to a tenth, up or down. Where they differ widely, it divides it by ten or more.
CLEARLY = 0.75


@dataclass(frozen=True)
class Network:
    """A network and the histograms of its activations."""

    proto: ModelProto
    histograms: dict[str, Histogram]


@dataclass(frozen=True)
class Pick:
    """The ranges for one grid.

    name         the method that gave the ranges
    ranges       {tensor: (low, high)}
    methods      {tensor: the method that gave its range}
    divergences  {candidate: KL divergence from the FP32 logits, in nats per image}
    """

    name: str
    ranges: dict[str, Range]
    methods: dict[str, str]
    divergences: dict[str, float]


@dataclass(frozen=True)
class Choice:
    """What `choose` found.

    neutral      for the grid of NEUTRAL, with 7-bit weights if all targets have them
    symmetric    for SYMMETRIC_GRID
    equalized    whether the ranges are those of the equalized network
    corrections  {whether weights have 7 bits: {layer: [channels]} to subtract from the biases with the grid of NEUTRAL}; only
                 where that helps
    """

    neutral: Pick
    symmetric: Pick
    equalized: bool
    corrections: dict[bool, dict[str, np.ndarray]]


def choose(
    plain: Network,
    equalized: Network | None,
    percentile: float,
    held_out: list[np.ndarray],
    calibrating: list[np.ndarray],
    reduce_range: Sequence[bool] = (False,),
) -> Choice:
    """The best of `assignments` on the batches `held_out`, with equalization if it clearly helps there, and with bias
    corrections from the batches `calibrating` if they help. Then the best for SYMMETRIC_GRID on the same network.

    Equalization is tried first with the method that is best without it. If equalization helps, all range methods are tried
    again on the equalized network. Batches are float32 [n, C, H, W].

    `reduce_range` says for each kind of weights that the targets have whether it is that of 7 bits. The ranges are chosen with
    the first kind, biases are corrected for each.
    """
    grids = [NEUTRAL.model_copy(update={"reduce_range": seven_bits}) for seven_bits in reduce_range]
    expected = predict_logits(plain.proto, held_out)

    def measured(
        network: Network, ranges: dict[str, Range], corrected: dict[str, np.ndarray] | None = None, grid: Placement = grids[0]
    ) -> float:
        quantized = copied(network.proto)
        quantize(quantized, ranges, grid, corrected)
        return divergence(expected, predict_logits(quantized, held_out))

    network, candidates = plain, assignments(plain.histograms, percentile)
    divergences = {name: measured(network, ranges) for name, (ranges, _) in candidates.items()}
    best = lowest(divergences)
    if equalized is not None:
        # Equalization changes only the tensors between the two layers of a pair.
        changed = {name: h for name, h in equalized.histograms.items() if h is not plain.histograms[name]}
        again = {}
        for name, (ranges, methods) in assignments(changed, percentile).items():
            again[f"{name}, equalized"] = (candidates[name][0] | ranges, candidates[name][1] | methods)
        first = f"{best}, equalized"
        divergences[first] = measured(equalized, again[first][0])
        if divergences[first] < CLEARLY * divergences[best]:
            network, candidates = equalized, again
            divergences |= {name: measured(network, ranges) for name, (ranges, _) in again.items() if name != first}
            best = lowest(divergences)
    ranges, methods = candidates[best]
    helping: dict[bool, dict[str, np.ndarray]] = {}
    for grid in grids:
        found = corrections(network.proto, ranges, calibrating, grid)
        name = best if grid is grids[0] else f"{best}, 7-bit weights"
        if name != best:
            divergences[name] = measured(network, ranges, grid=grid)
        divergences[f"{name}, corrected"] = measured(network, ranges, found, grid)
        if divergences[f"{name}, corrected"] < divergences[name]:
            helping[grid.reduce_range] = found
    neutral = Pick(best, ranges, methods, divergences)
    candidates = assignments(network.histograms, percentile, symmetric=True)
    divergences = {name: measured(network, ranges, grid=SYMMETRIC_GRID) for name, (ranges, _) in candidates.items()}
    symmetric = Pick(lowest(divergences), *candidates[lowest(divergences)], divergences)
    return Choice(neutral, symmetric, network is equalized, helping)


def lowest(divergences: dict[str, float]) -> str:
    return min(divergences, key=lambda name: divergences[name])


def assignments(
    histograms: dict[str, Histogram], percentile: float, symmetric: bool = False
) -> dict[str, tuple[dict[str, Range], dict[str, str]]]:
    """{name: (ranges, the method of each range)}: each method for all tensors, and the best method for each tensor.

    Two percentiles: `percentile`, and one that clips a tenth as many values. The best method for a tensor has the lowest
    expected squared error of 8-bit rounding and clipping (`rounding_error`).
    """
    finer = 100 - (100 - percentile) / 10
    whole: dict[str, dict[str, Range]] = {
        "max": {name: select(h, method="max") for name, h in histograms.items()},
        f"percentile {percentile:g}": {n: select(h, method="percentile", percentile=percentile) for n, h in histograms.items()},
        f"percentile {finer:g}": {n: select(h, method="percentile", percentile=finer) for n, h in histograms.items()},
        "entropy": {name: select(h, method="entropy", symmetric=symmetric) for name, h in histograms.items()},
        "mse": {name: select(h, method="mse", symmetric=symmetric) for name, h in histograms.items()},
    }
    picked = {
        name: min(whole, key=lambda method: rounding_error(histogram, *whole[method][name], symmetric))
        for name, histogram in histograms.items()
    }
    found = {method: (ranges, dict.fromkeys(ranges, method)) for method, ranges in whole.items()}
    found[PER_TENSOR] = ({name: whole[method][name] for name, method in picked.items()}, picked)
    return found


def counted(methods: dict[str, str]) -> dict[str, int]:
    """{method: the number of tensors that use it}, the most frequent first."""
    return dict(Counter(methods.values()).most_common())
