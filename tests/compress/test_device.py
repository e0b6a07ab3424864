"""Batches on the device that trains are those of the CPU, and the precision is what the card computes itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compress.device import device_and_precision, on_device, reestimated
from data import feed, loader, workers
from data.augment import Augment
from data.index import Data, index
from data.loader import Reading, Split, batches
from models.checkpoint import load
from tests.conftest import Small

CPU = torch.device("cpu")


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_trains_in_bf16_only_where_it_multiplies_it(native: bool, dtype: torch.dtype, monkeypatch: Any) -> None:
    emulated: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        emulated.append(including_emulation)
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert device_and_precision() == (torch.device("cuda"), dtype) and emulated == [False]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixels_are_normalised_to_the_same_numbers(order: str, small: Small) -> None:
    split = Split(small.images, "train", Augment(flip=True, shift=3), seed=2)
    split.spec = {**split.spec, "channel_order": order}
    pairs = zip(batches(split, 32, shuffle=True), feed.feed(split, 32, CPU, shuffle=True), strict=True)
    for (x, y), (there, its) in pairs:
        assert torch.equal(x, there) and torch.equal(y, its)
        assert there.is_contiguous(memory_format=torch.channels_last)


def test_an_array_on_the_device_gives_the_same_batches(small: Small) -> None:
    """What a GPU does, with the CPU in its place."""
    split = Split(small.images, "train", Augment(flip=True, shift=3))
    reading = Reading(split, 32, shuffle=True, seeds=[5, 6])
    for (x, y), (there, its) in zip(feed.moved_batches(reading, CPU), feed.resident_batches(reading, CPU), strict=True):
        assert torch.equal(x, there) and torch.equal(y, its)


def test_an_array_that_is_too_large_or_that_pillow_scales_stays_with_the_cpu(small: Small, monkeypatch: Any) -> None:
    class Card:
        total_memory = 4 * Split(small.images, "train").array.nbytes

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    split, gpu = Split(small.images, "train"), torch.device("cuda")
    assert feed.lives_on(split, gpu) and not feed.lives_on(split, CPU)
    Card.total_memory -= 1
    assert not feed.lives_on(split, gpu)
    Card.total_memory *= 2
    split.at_once = False
    assert not feed.lives_on(split, gpu)


def test_every_seed_is_an_epoch_of_its_own(small: Small) -> None:
    split = Split(small.images, "train", Augment(flip=True, shift=3))
    both = [x for x, _ in feed.feed(split, 64, CPU, shuffle=True, seeds=[5, 6])]
    single = [x for seed in (5, 6) for x, _ in feed.feed(split.seeded(seed), 64, CPU, shuffle=True)]
    assert len(both) == len(single) and all(torch.equal(a, b) for a, b in zip(both, single, strict=True))
    assert not torch.equal(both[0], both[len(both) // 2])


def test_a_network_that_was_judged_can_still_be_trained(small: Small) -> None:
    """Weights that are moved inside inference_mode could not be: the move leaves tensors without gradients."""
    network, _ = load(small.model)
    with torch.inference_mode(), on_device(network.eval()):
        network(torch.zeros(1, *Split(small.images, "test").dataset["input_shape"]))
    x, y = next(batches(Split(small.images, "train"), 8))
    nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_batch_norm_is_reestimated_on_the_images_given(small: Small) -> None:
    network, _ = load(small.model)
    split = Split(small.images, "train")
    reestimated(network, split, images=64, batch_size=64)
    seen: list[np.ndarray] = []
    with network.conv1.register_forward_hook(lambda _m, _i, output: seen.append(output.detach().numpy())):
        network(next(batches(split, 64, shuffle=True, limit=64))[0])
    np.testing.assert_allclose(network.bn1.running_mean.numpy(), seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_files_reach_the_device_as_bytes_from_workers_that_live_for_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        for number in range(12):
            file = tmp_path / "photos" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 40, 3), 20 * number, np.uint8)).save(file)
    out = tmp_path / "images"
    out.mkdir()
    index(Data(name=str(tmp_path / "photos"), input_size=32), out)
    started: list[int] = []
    plain = workers.results

    def results(dataset: Any, groups: Any, count: int) -> Any:
        started.append(count)
        return plain(dataset, groups, count)

    monkeypatch.setattr(loader.workers, "results", results)
    split = Split(out, "train", Augment())
    found = list(loader.raw_batches(Reading(split, 4, shuffle=True, seeds=[0, 1, 2])))
    assert {x.dtype for x, _ in found} == {torch.uint8} and len(started) == 1
    assert len(found) == 3 * (len(split) // 4)
