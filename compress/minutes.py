"""The number of training steps that fit into the minutes given for a training."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import NamedTuple

from torch import Tensor, nn

from compress.average import copied
from core import ranks
from core.console import console
from data.loader import Batch

WARM = 3  # steps before timing starts: kernels are chosen and worker processes start
ROUND = 5  # timed steps of a round, spread evenly over the training: later steps may take longer
SHARE = 0.02  # of the given time is spent on timing, at least one round


class Pace(NamedTuple):
    """The seconds of a training step, and of the evaluation at the end of every epoch."""

    step: float
    evaluation: float

    def epoch(self, steps: int) -> float:
        """The seconds of an epoch of so many steps."""
        return self.step * steps + self.evaluation

    def steps_within(self, seconds: float, steps: int) -> int:
        """The number of steps that fit into `seconds`, at least one; an epoch has `steps`. The last epoch may be a part."""
        whole, rest = divmod(max(0.0, seconds), self.epoch(steps))
        part = int(max(0.0, rest - self.evaluation) / self.step)
        return max(1, int(whole) * steps + part)


def pace_of(
    model: nn.Module,
    step: Callable[[float, Tensor, Tensor], Tensor],
    epoch: Callable[[], Iterator[Batch]],
    judge: Callable[[], object],
    given: float,
) -> Pace:
    """The seconds of a step on the batches of `epoch()`, and of `judge()`; `model` does not change.

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
        if timed >= ROUND and timed % ROUND == 0 and ranks.agreed(time.perf_counter() - started >= SHARE * given):
            break
        loss = step((timed % ROUND + 0.5) / ROUND, x, y)
        if (timed + 1) % ROUND == 0:
            float(loss)  # waits for devices that compute in the background
    a_step = (time.perf_counter() - started) / timed
    started = time.perf_counter()
    judge()
    judging = time.perf_counter() - started
    model.load_state_dict(before)
    return Pace(a_step, judging)


def minutes_notes(label: str, pace: Pace, steps: int, total: int, minutes: float) -> list[str]:
    """A note when less than one epoch (of `steps`) fits into `minutes`; prints the pace and the `total` of the steps."""
    an_epoch, share = pace.epoch(steps), total / steps
    console.print(f"  {label}: about {an_epoch:.3g} s per epoch, {share:.3g} epochs in {minutes:.3g} minutes")
    if share >= 1:
        return []
    return [f"{label}: {minutes:.3g} minutes are too short for one epoch ({an_epoch / 60:.3g} min); {share:.1%} of it was run."]
