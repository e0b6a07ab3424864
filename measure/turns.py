"""Engines that took turns: which of them is quicker, and the interval of the ratio of their p50.

The turns are the units. The queries of one turn share the state of the machine, so they are not independent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

QUICKER = 0.9  # share of turns: 9 of 10 happen by chance in 2 of 100 comparisons of equal engines (sign test, two-sided)
RESAMPLES = 2000
SEED = 0


def share_quicker(turns: Sequence[float], others: Sequence[float]) -> float:
    """The share of turns in which the first engine was quicker, from the p50 of the turns of both, in the same order."""
    return float(np.mean([ours < theirs for ours, theirs in zip(turns, others, strict=True)]))


def is_quicker(turns: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the first engine was quicker in at least 9 of 10 turns."""
    return share_quicker(turns, others) >= QUICKER


def resampled_p50(turns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """p50 of all queries of an engine in each of 2,000 resamples of its turns [RESAMPLES]; `turns` has the times of each.

    The seed is fixed: resample i has the same turns for every engine with as many turns, so ratios are paired.
    """
    drawn = np.random.default_rng(SEED).integers(0, len(turns), (RESAMPLES, len(turns)))
    taken = [np.asarray(turn) for turn in turns]
    return np.array([np.median(np.concatenate([taken[i] for i in which])) for which in drawn])


def ratios(turns: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[str, list[float]]]:
    """{engine: {other: the 95 % interval of p50 of the engine / p50 of the other}}: percentile bootstrap (Efron 1979)."""
    drawn = {name: resampled_p50(taken) for name, taken in turns.items()}
    return {
        name: {
            other: [round(float(limit), 4) for limit in np.percentile(ours / theirs, (2.5, 97.5))]
            for other, theirs in drawn.items()
            if other != name
        }
        for name, ours in drawn.items()
    }
