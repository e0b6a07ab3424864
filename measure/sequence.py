"""Fixed-sequence testing: several engines are judged on the test images, and the verdict is as sure as if it were one.

The order is fixed before the test images are used, from the mildest engine to the hardest. Each is tested at full confidence,
but it can only pass if all before it passed. Then the chance that an engine passes whose drop really reaches the limit is at
most 5 %, however many are judged. Trying another one after the first has failed would add up the chances.
Paper: Maurer, Hothorn and Lehmacher, Multiple comparisons in drug clinical trials and preclinical assays, 1995.
"""

from collections.abc import Sequence

from measure.gate import worst
from measure.verdict import Verdict


def standings(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdict of each engine in the sequence: the worst of its own and of those before it."""
    return [worst(verdicts[: i + 1]) for i in range(len(verdicts))]


def fixed_sequence(verdicts: Sequence[Verdict], strict: bool = False) -> int | None:
    """Which engine ships, as an index into `verdicts` (from the mildest engine to the hardest); None: none.

    The hardest that passed. If none passed, the hardest that is inconclusive, except with `strict`.
    """
    found = standings(verdicts)
    if not found or found[0] == "fail" or (strict and found[0] == "inconclusive"):
        return None
    return max(i for i, standing in enumerate(found) if standing == found[0])
