"""What chance changes in a batch on a GPU: the same as on a CPU, and no step waits for the GPU."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch

from compress.mix import changed
from compress.schedule import Schedule
from data.policy import Policy, PolicyName, applied, drawn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA")


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", get_args(PolicyName))
def test_a_policy_on_a_gpu_is_that_on_a_cpu(name: PolicyName) -> None:
    pixels = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8)
    what = drawn(name, 64, np.random.default_rng(0))
    found, expected = applied(pixels.cuda(), what).cpu().int(), applied(pixels, what).int()
    assert float((found - expected).abs().gt(2).float().mean()) < 0.01  # the last bit may decide about an inverted pixel


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("name", get_args(PolicyName))
def test_a_policy_does_not_wait_for_the_gpu(name: PolicyName) -> None:
    pixels = torch.zeros(64, 32, 32, 3, dtype=torch.uint8, device="cuda")
    Policy(name, 64)(pixels, 0, list(range(64)))


@pytest.mark.usefixtures("no_waiting")
def test_erasing_and_mixing_do_not_wait_for_the_gpu() -> None:
    schedule = Schedule(epochs=1, erasing=0.5, mixup=0.2, cutmix=1.0, sizes=(24, 32))
    x, y = torch.zeros(64, 3, 32, 32, device="cuda"), torch.zeros(64, dtype=torch.int64, device="cuda")
    for step in range(8):
        changed(schedule, 10, step / 8, x, y)
