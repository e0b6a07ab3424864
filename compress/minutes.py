"""The number of epochs that fit into the minutes given for a training."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, count

from torch import Tensor, nn

from compress.average import copied
from data.loader import Batch

WARM = 3  # steps before timing starts: kernels are chosen and worker processes start
ROUND = 5  # timed steps of a round, spread evenly over the training: later steps may take longer
SHARE = 0.02  # of the given time is spent on timing, at least one round


def seconds_of_an_epoch(
    model: nn.Module,
    step: Callable[[float, Tensor, Tensor], Tensor],
    epoch: Callable[[], Iterator[Batch]],
    steps: int,
    judge: Callable[[], object],
    given: float,
) -> float:
    """The seconds that an epoch of `steps` batches of `epoch()` takes, with `judge` at its end; `model` does not change.

    `step(share, x, y)` is a complete training step after a `share` of the training, but with learning rate 0: otherwise the
    timed training could diverge. `given` are the seconds of the whole training.
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
    """The number of whole epochs of `an_epoch` seconds that fit into `seconds`, at least one."""
    return max(1, int(seconds / an_epoch))
