"""How many epochs fit into the minutes that a training is given."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, count

from torch import Tensor, nn

from compress.average import copied
from data.loader import Batch

WARM = 3  # steps before the clock starts: kernels are chosen, worker processes started
ROUND = 5  # timed steps come in rounds, spread evenly over training, whose steps may grow dearer as it goes on
SHARE = 0.02  # of the time given is spent on timing, or one round


def seconds_of_an_epoch(
    model: nn.Module,
    step: Callable[[float, Tensor, Tensor], Tensor],
    epoch: Callable[[], Iterator[Batch]],
    steps: int,
    judge: Callable[[], object],
    given: float,
) -> float:
    """What an epoch of `steps` batches of `epoch()` takes, `judge` at its end included; `model` is left as it was.

    `step(share, x, y)` is a whole training step after a `share` of the training, but for the weights: they should stay, or
    what is timed diverges.
    `given` are the seconds of the whole training.
    """
    before = copied(model)
    model.train()
    started = time.perf_counter()
    for i, (x, y) in enumerate(chain.from_iterable(epoch() for _ in count())):
        timed = i - WARM
        if timed == 0:
            started = time.perf_counter()
        if timed >= ROUND and timed % ROUND == 0 and time.perf_counter() - started >= SHARE * given:
            break
        float(step((timed % ROUND + 0.5) / ROUND, x, y))  # waits for devices that compute in the background
    a_step = (time.perf_counter() - started) / timed
    started = time.perf_counter()
    judge()
    judging = time.perf_counter() - started
    model.load_state_dict(before)
    return a_step * steps + judging


def epochs_within(seconds: float, an_epoch: float) -> int:
    """As many whole epochs of `an_epoch` seconds as fit, at least one."""
    return max(1, int(seconds / an_epoch))
