"""Several engines, one verdict: what ships, and how often a bad engine passes."""

import numpy as np
import pytest

from measure.gate import drop_of
from measure.sequence import fixed_sequence, standings
from measure.verdict import Verdict

PASS, UNSURE, FAIL = "pass", "inconclusive", "fail"


@pytest.mark.parametrize(
    ("verdicts", "ships", "strict"),
    [
        ([], None, None),
        ([PASS], 0, 0),
        ([UNSURE], 0, None),
        ([FAIL], None, None),
        ([PASS, PASS], 1, 1),
        ([PASS, UNSURE], 0, 0),  # the hardest that passed, although the harder one might ship alone
        ([PASS, FAIL], 0, 0),
        ([UNSURE, PASS], 1, None),  # ships, but not as one that passed
        ([UNSURE, UNSURE], 1, None),
        ([UNSURE, FAIL], 0, None),
        ([FAIL, PASS], None, None),  # never "the first one failed, try the next"
        ([FAIL, UNSURE], None, None),
        ([PASS, PASS, FAIL], 1, 1),
        ([PASS, UNSURE, PASS], 0, 0),  # the third is not tested any more
        ([PASS, FAIL, PASS], 0, 0),
    ],
)
def test_the_hardest_that_passed_ships(verdicts: list[Verdict], ships: int | None, strict: int | None) -> None:
    assert fixed_sequence(verdicts) == ships
    assert fixed_sequence(verdicts, strict=True) == strict


def test_a_verdict_is_never_better_than_those_before_it() -> None:
    assert standings([PASS, UNSURE, PASS, FAIL, PASS]) == [PASS, UNSURE, UNSURE, FAIL, FAIL]


@pytest.mark.parametrize("n", [500, 2000])
def test_a_bad_engine_passes_in_at_most_5_percent_of_draws(n: int) -> None:
    """Two engines that lose exactly the limit, drawn independently: the worst case for several tries."""
    rng, draws, limit = np.random.default_rng(0), 2000, 2.0
    passed = tried = 0
    for _ in range(draws):
        before = rng.random(n) < 0.9
        verdicts = []
        for _engine in range(2):
            lost, gained = rng.random(n) < 0.03 / 0.9, rng.random(n) < 0.01 / 0.1
            verdicts.append(drop_of(before, np.where(before, ~lost, gained), limit).verdict)
        passed += fixed_sequence(verdicts, strict=True) is not None
        tried += PASS in verdicts
    assert passed / draws <= 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5
    assert tried > 1.5 * passed, "trying the next one after a failure would let nearly twice as many pass"
