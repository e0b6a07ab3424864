"""Transfer: what is frozen stays bit for bit, the classifier is new, and an interruption changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.fit import Task, fit, tidy
from compress.top1 import top1
from compress.transfer import Transfer, freeze, new_head, trained_parts, transfer
from data.augment import Augment
from data.index import Data, index
from data.loader import Split
from models.checkpoint import load, save
from models.custom import describe
from models.resnet import ResNet
from tests.compress.parts import TINY, own_network, part_of, tiny
from tests.conftest import Small

FIXED = Augment(flip=False, shift=0)


def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(network(x), y, label_smoothing=0.1)


def moved(before: Path, after: Path) -> set[str]:
    """The tensors, parameters and running statistics, that are not bit for bit the same."""
    old, new = load(before)[0].state_dict(), load(after)[0].state_dict()
    return {name for name in old if old[name].shape != new[name].shape or not torch.equal(old[name], new[name])}


@pytest.mark.parametrize(("blocks", "augment"), [(0, Augment()), (0, FIXED), (1, FIXED), (2, FIXED), (9, FIXED), (None, FIXED)])
def test_what_is_frozen_stays_as_it_is(small: Small, tmp_path: Path, blocks: int | None, augment: Augment) -> None:
    model, images = tiny(tmp_path / "model"), part_of(small.images, tmp_path / "images", classes=3)
    out = tmp_path / "out"
    out.mkdir()
    metrics = transfer(Transfer(epochs=1, trainable_blocks=blocks, augment=augment), out, model=model, images=images)
    prefixes = {0: ["fc."], 1: ["fc.", "layer2."], None: [""]}.get(blocks, ["fc.", "layer1.", "layer2."])
    names = set(load(model)[0].state_dict())
    assert moved(model, out) == {name for name in names if name.startswith(tuple(prefixes))}
    network, spec = load(out)
    assert spec == TINY.model_copy(update={"num_classes": 3})
    assert metrics["new_head"] and metrics["classes"] == 3
    assert sum(metrics["params"].values()) == sum(p.numel() for p in network.parameters())
    assert (metrics["params"]["frozen"] == 0) == (blocks is None)
    assert sorted(path.name for path in out.iterdir()) == [
        "gradients.json", "labels.txt", "model.json", "model.safetensors", "preprocess.json",
    ]  # fmt: skip


@pytest.mark.parametrize(("same", "replaced", "message"), [(True, False, False), (False, True, False), (None, False, True)])
def test_as_many_classes_are_not_the_same_classes(
    small: Small, tmp_path: Path, same: bool | None, replaced: bool, message: bool
) -> None:
    model, images, out = tiny(tmp_path / "model"), part_of(small.images, tmp_path / "images"), tmp_path / "out"
    out.mkdir()
    dataset = json.loads((images / "dataset.json").read_text())
    (images / "dataset.json").write_text(json.dumps({**dataset, "same_classes": same}))
    metrics = transfer(Transfer(epochs=1, trainable_blocks=0), out, model=model, images=images)
    assert metrics["new_head"] is replaced
    assert bool(metrics["notes"]) is message


def test_a_network_with_norms_before_its_convolutions_trains_its_last_norm_too() -> None:
    network = ResNet(TINY.model_copy(update={"preact": True}))
    frozen = freeze(network, trained_parts(network, network.fc, 1))
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"layer2", "norm", "fc"}
    assert network.norm not in frozen and network.layer1[0].bn1 in frozen


@pytest.mark.parametrize("augment", [Augment(), FIXED])
def test_the_classifier_of_a_users_own_network_is_found_and_replaced(small: Small, tmp_path: Path, augment: Augment) -> None:
    images, model, out = part_of(small.images, tmp_path / "images", classes=3), tmp_path / "model", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    arch = "tests.compress.parts:own_network"
    network = own_network()
    save(network, describe(arch, network), model)
    transfer(Transfer(epochs=1, trainable_blocks=0, augment=augment), out, model=model, images=images)
    assert moved(model, out) == {"6.weight", "6.bias"}
    assert load(out)[1].num_classes == 3


def test_features_asked_once_teach_the_classifier_the_same(small: Small, tmp_path: Path) -> None:
    """The classifier trained on the cached features is the one that training through the frozen network gives."""
    model, images = tiny(tmp_path / "model"), part_of(small.images, tmp_path / "images", classes=3)
    config = Transfer(epochs=3, trainable_blocks=0, augment=FIXED, head_lr=0.5)
    quick, slow = tmp_path / "quick", tmp_path / "slow"
    quick.mkdir()
    slow.mkdir()
    metrics = transfer(config, quick, model=model, images=images)
    expected, _ = load(model)
    expected.fc = new_head(expected.fc, 3, config.seed)
    untrained = expected.fc.weight.detach().clone()
    frozen = freeze(expected, [expected.fc])

    def keep_still(share: float) -> None:
        for module in frozen:
            module.training = False

    task = Task(expected, loss, images, "slow", before_step=keep_still, lr_of=lambda name: 0.5)
    history = fit(task, config, slow)["history"]
    found = load(quick)[0].fc.weight
    assert (found - untrained).abs().max() > 0.1
    torch.testing.assert_close(found, expected.fc.weight, rtol=0.02, atol=0.005)
    assert [e["loss"] for e in metrics["history"]] == pytest.approx([e["loss"] for e in history], rel=0.01)


def test_the_classifier_has_a_learning_rate_of_its_own(small: Small, tmp_path: Path) -> None:
    model, images = tiny(tmp_path / "model"), part_of(small.images, tmp_path / "images", classes=3)
    config = Transfer(epochs=1, lr=1e-9, head_lr=0.1, weight_decay=0)
    transfer(config, tmp_path, model=model, images=images)
    before, after = load(model)[0], load(tmp_path)[0]
    torch.testing.assert_close(after.conv1.weight, before.conv1.weight, rtol=0, atol=1e-6)
    assert not torch.equal(after.bn1.running_mean, before.bn1.running_mean)  # nothing is frozen
    assert (after.fc.weight - new_head(before.fc, 3, 0).weight).abs().max() > 0.01


@pytest.mark.slow
def test_interrupted_it_ends_with_what_it_would_have_ended_with(small: Small, tmp_path: Path) -> None:
    """The optimizer's groups, one of them with a rate of its own, are found again."""
    model, images = tiny(tmp_path / "model"), part_of(small.images, tmp_path / "images", classes=3)
    config = Transfer(epochs=3, batch_size=32)

    class Pulled(Exception):
        """The plug is pulled."""

    def run(out: Path, until: float) -> tuple[ResNet, list[dict[str, float]]]:
        network, _ = load(model)
        network.fc = new_head(network.fc, 3, 0)
        frozen = freeze(network, trained_parts(network, network.fc, 1))

        def step(share: float) -> None:
            if share > until:
                raise Pulled
            for module in frozen:
                module.training = False

        rate = {"fc.weight": 0.1, "fc.bias": 0.1}
        task = Task(network, loss, images, "x", before_step=step, lr_of=lambda name: rate.get(name, 0.01))
        return network, fit(task, config, out)["history"]

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    expected, history = run(whole, until=1)
    with pytest.raises(Pulled):
        run(halves, until=0.5)
    assert len(torch.load(halves / "epoch.pt", weights_only=True)["history"]) == 1
    found, resumed = run(halves, until=1)
    assert [e["loss"] for e in resumed] == pytest.approx([e["loss"] for e in history], rel=1e-3)
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-4, atol=1e-5)
    tidy(halves)
    assert [file.name for file in halves.iterdir()] == ["gradients.json"]


def test_a_folder_of_a_few_images_is_learnt(tmp_path: Path) -> None:
    """22 images of two colours to train on: fewer than a batch, so epochs are added until min_steps are reached."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8)):
        for channel, label in ((1, "green"), (0, "red")):
            folder = tmp_path / "folder" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (40, 40, 3), dtype=np.uint8)
                pixels[:, :, channel] += 100
                Image.fromarray(pixels).save(folder / f"{i}.png")
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    out.mkdir()
    index(Data(name=str(tmp_path / "folder"), input_size=32), images)
    model = tiny(tmp_path / "model", TINY.model_copy(update={"in_channels": 3}))
    metrics = transfer(Transfer(epochs=1, min_steps=8, lr=0.05), out, model=model, images=images)
    assert metrics["epochs"] == 8
    accuracy = top1(load(out)[0], Split(images, "test"))
    assert accuracy is not None and accuracy >= 90


def test_the_same_classes_keep_their_classifier_unless_a_new_one_is_asked_for(small: Small, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    metrics = transfer(Transfer(epochs=0), tmp_path, model=model, images=small.images)
    assert not metrics["new_head"] and metrics["epochs"] == 0 and not moved(model, tmp_path)
    with pytest.raises(ValueError, match=r"epochs = 0 would leave the new classifier \(10 -> 10 classes\) untrained"):
        transfer(Transfer(epochs=0, new_head=True), tmp_path, model=model, images=small.images)


def test_what_cannot_be_done_is_refused(small: Small, tmp_path: Path) -> None:
    for wrong in ({"head_lr": 0}, {"head_lr": -1}, {"lr": 0}, {"trainable_blocks": -1}, {"epochs": -1}, {"min_steps": -1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Transfer(**wrong)
    grey = part_of(small.images, tmp_path / "one", classes=1)
    with pytest.raises(ValueError, match="only one class"):
        transfer(Transfer(), tmp_path, model=tiny(tmp_path / "model"), images=grey)
    colour = tiny(tmp_path / "colour", TINY.model_copy(update={"in_channels": 3}))
    with pytest.raises(ValueError, match="images of 1 channels, the checkpoint reads 3"):
        transfer(Transfer(), tmp_path, model=colour, images=small.images)
    with pytest.raises(ValueError, match="trainable_blocks = 2: Sequential is not of the ResNet family"):
        trained_parts(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2), 2)
