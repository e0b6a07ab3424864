"""Histograms + images that did not calibrate -> the ranges that the answers suffer least from.

And whether equalization and bias correction help, by the same measure.

Whole assignments of ranges to tensors are compared, not one tensor at a time: choosing tensor by tensor on the same 256 images
fits those images (their KL divergence fell by a quarter, that of others by a tenth or not at all) and takes minutes.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from calibration.correct import corrections
from calibration.place import NEUTRAL, quantize
from calibration.ranges import Histogram, Range, rounding_error, select
from calibration.session import divergence, predict_logits
from core.graph import copied

PER_TENSOR = "per tensor"
# Equalization is to leave at most this share of the divergence. Networks whose channels differ little are as good with it as
# without, give or take a tenth on 256 images; what it is for, it divides by ten and more.
CLEARLY = 0.75


@dataclass(frozen=True)
class Form:
    """A network and what its activations were seen to be."""

    proto: ModelProto
    histograms: dict[str, Histogram]


@dataclass(frozen=True)
class Choice:
    """The ranges {tensor: (low, high)}; the method that gave each; whether they are those of the equalized network; what to
    subtract from the biases {layer: [channels]}, empty where that does not help; and the KL divergence of every candidate from
    the FP32 answers."""

    name: str
    ranges: dict[str, Range]
    methods: dict[str, str]
    equalized: bool
    corrections: dict[str, np.ndarray]
    divergences: dict[str, float]


def choose(
    plain: Form, equalized: Form | None, percentile: float, held_out: list[np.ndarray], calibrating: list[np.ndarray]
) -> Choice:
    """The best of `assignments` on the batches `held_out`, with equalization if it clearly helps there, and bias corrections
    from `calibrating` if they help.

    Equalization is tried with the method that is best without; where it helps, all of them are tried anew: which is best for a
    network that 8 bits break says little of the network that was mended. Batches are float32 [n, C, H, W].
    """
    expected = predict_logits(plain.proto, held_out)

    def judged(form: Form, ranges: dict[str, Range], corrected: dict[str, np.ndarray] | None = None) -> float:
        quantized = copied(form.proto)
        quantize(quantized, ranges, NEUTRAL, corrected)
        return divergence(expected, predict_logits(quantized, held_out))

    form, candidates = plain, assignments(plain.histograms, percentile)
    divergences = {name: judged(form, ranges) for name, (ranges, _) in candidates.items()}
    best = lowest(divergences)
    if equalized is not None:
        # Only the tensors between pairs are others than before.
        changed = {name: h for name, h in equalized.histograms.items() if h is not plain.histograms[name]}
        again = {}
        for name, (ranges, methods) in assignments(changed, percentile).items():
            again[f"{name}, equalized"] = (candidates[name][0] | ranges, candidates[name][1] | methods)
        first = f"{best}, equalized"
        divergences[first] = judged(equalized, again[first][0])
        if divergences[first] < CLEARLY * divergences[best]:
            form, candidates = equalized, again
            divergences |= {name: judged(form, ranges) for name, (ranges, _) in again.items() if name != first}
            best = lowest(divergences)
    ranges, methods = candidates[best]
    found = corrections(form.proto, ranges, calibrating)
    divergences[f"{best}, corrected"] = judged(form, ranges, found)
    helps = divergences[f"{best}, corrected"] < divergences[best]
    return Choice(best, ranges, methods, form is equalized, found if helps else {}, divergences)


def lowest(divergences: dict[str, float]) -> str:
    return min(divergences, key=lambda name: divergences[name])


def assignments(histograms: dict[str, Histogram], percentile: float) -> dict[str, tuple[dict[str, Range], dict[str, str]]]:
    """By name, the ranges and which method each comes from: every method for all tensors, and the pick of them per tensor.

    Two percentiles: `percentile`, and the one that clips a tenth of what it clips. The pick has the least expected squared
    error of 8-bit rounding and clipping (`rounding_error`).
    """
    finer = 100 - (100 - percentile) / 10
    whole: dict[str, dict[str, Range]] = {
        "max": {name: select(h, method="max") for name, h in histograms.items()},
        f"percentile {percentile:g}": {n: select(h, method="percentile", percentile=percentile) for n, h in histograms.items()},
        f"percentile {finer:g}": {n: select(h, method="percentile", percentile=finer) for n, h in histograms.items()},
        "entropy": {name: select(h, method="entropy") for name, h in histograms.items()},
        "mse": {name: select(h, method="mse") for name, h in histograms.items()},
    }
    picked = {
        name: min(whole, key=lambda method: rounding_error(histogram, *whole[method][name]))
        for name, histogram in histograms.items()
    }
    found = {method: (ranges, dict.fromkeys(ranges, method)) for method, ranges in whole.items()}
    found[PER_TENSOR] = ({name: whole[method][name] for name, method in picked.items()}, picked)
    return found


def counted(methods: dict[str, str]) -> dict[str, int]:
    """How many tensors took each method, most first."""
    return dict(Counter(methods.values()).most_common())
