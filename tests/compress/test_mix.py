"""Random erasing, mixup, cutmix, smaller images, stochastic depth: what a step sees, and what a training makes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compress.distill import Distill, distill
from compress.fit import Task, fit
from compress.mix import changed, cutmix, erased, mixup, side_at
from compress.schedule import Schedule
from compress.train import Train, train
from compress.transfer import Transfer, transfer
from core.text import problem
from data.augment import Augment
from models.blocks import Residual, stochastic_depth
from models.resnet import ResNet, family_spec
from tests.compress.parts import TINY, own_network, tiny
from tests.conftest import Small

ALL: dict[str, Any] = {
    "policy": "randaugment", "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0, "sizes": (16, 32), "stochastic_depth": 0.2,
}  # fmt: skip


def ones(count: int = 64, side: int = 16) -> Tensor:
    return torch.ones(count, 2, side, side).contiguous(memory_format=torch.channels_last)


def test_erasing_makes_a_rectangle_of_zeros_in_so_many_images() -> None:
    x = erased(ones(4000), 0.25, np.random.default_rng(0))
    gone = x[:, 0] == 0
    assert torch.equal(gone, x[:, 1] == 0)
    hit = gone.flatten(1).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.25, abs=0.03)
    areas = gone[hit].flatten(1).float().mean(1)
    assert float(areas.min()) > 0.01 and float(areas.max()) < 0.36
    rows, columns = gone[hit].any(2).sum(1), gone[hit].any(1).sum(1)
    assert torch.equal(rows * columns, gone[hit].flatten(1).sum(1))  # a rectangle is full
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(erased(ones(), 0.0, np.random.default_rng(0)), ones())


def test_mixup_blends_images_and_targets_alike() -> None:
    x, y = torch.randn(6, 3, 4, 4), torch.eye(6)
    mixed, target = mixup(x, y, 0.3, np.random.default_rng(0))
    torch.testing.assert_close(mixed[0], 0.7 * x[0] + 0.3 * x[5])
    torch.testing.assert_close(target[0], torch.tensor([0.7, 0, 0, 0, 0, 0.3]))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_cutmix_mixes_targets_by_the_area_that_was_replaced(share: float) -> None:
    for seed in range(20):
        x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 10, 14)
        mixed, target = cutmix(x, torch.eye(2), share, np.random.default_rng(seed))
        torch.testing.assert_close(mixed[0].mean(), target[0, 1])
        torch.testing.assert_close(target.sum(1), torch.ones(2))
        assert float(target[0, 1]) <= share + 1e-6
        assert torch.equal(x, torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 10, 14))  # the batch itself stays


def test_a_mixed_target_is_the_mean_of_the_losses_of_both_labels() -> None:
    logits, labels = torch.randn(4, 10), torch.tensor([1, 5, 2, 7])
    _, y = changed(Schedule(epochs=1, mixup=1.0), 10, 0.0, torch.randn(4, 1, 8, 8), labels)
    found = cross_entropy(logits, y, label_smoothing=0.1, reduction="none")
    share = 1 - y[torch.arange(4), labels]
    each = [cross_entropy(logits, given, label_smoothing=0.1, reduction="none") for given in (labels, labels.flip(0))]
    torch.testing.assert_close(found, (1 - share) * each[0] + share * each[1])


def test_both_kinds_of_mixing_take_turns_and_some_batches_stay() -> None:
    torch.manual_seed(0)
    x, y = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 8, 8), torch.tensor([0, 1])
    kinds = []
    for _ in range(300):
        mixed, _ = changed(Schedule(epochs=1, mixup=1.0, cutmix=1.0, mix_probability=0.6), 2, 0.0, x, y)
        values = len(mixed[0].unique())
        kinds.append("none" if torch.equal(mixed, x) else "cutmix" if values > 1 or float(mixed[0].mean()) == 1 else "mixup")
    assert kinds.count("none") == pytest.approx(120, abs=30)  # or a cut of no pixel
    assert kinds.count("mixup") == pytest.approx(90, abs=25)


def test_without_these_keys_a_batch_stays_as_it_is_and_nothing_is_drawn() -> None:
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = changed(Schedule(epochs=1), 3, 0.5, x, y)
    assert found[0] is x and found[1] is y and torch.equal(torch.get_rng_state(), before)


def test_the_images_grow_in_equal_parts_of_the_training() -> None:
    schedule = Schedule(epochs=1, sizes=(8, 12, 16))
    assert [side_at(schedule, share) for share in (0.0, 0.3, 0.34, 0.66, 0.67, 0.999, 1.0)] == [8, 8, 12, 12, 16, 16, 16]
    assert side_at(Schedule(epochs=1), 0.5) is None
    x, y = ones(4), torch.arange(4)
    small, same = changed(schedule, 4, 0.0, x, y)
    assert small.shape == (4, 2, 8, 8) and same is y and small.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(small, torch.ones(4, 2, 8, 8))
    assert changed(schedule, 4, 0.9, x, y)[0] is x


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"mixup": -1}, "mixup = -1: input should be greater than or equal to 0"),
        ({"cutmix": float("nan")}, "cutmix = nan: input should be"),
        ({"mixup": float("inf")}, "mixup = inf: input should be a finite number"),
        ({"mixup": 0.2, "mix_probability": 1.5}, "mix_probability = 1.5: input should be less than or equal to 1"),
        ({"mix_probability": 0.5}, "mix_probability = 0.5 mixes nothing; expected mixup or cutmix above 0"),
        ({"erasing": 1.2}, "erasing = 1.2: input should be less than or equal to 1"),
        ({"stochastic_depth": 1.0}, "stochastic_depth = 1.0: input should be less than 1"),
        ({"stochastic_depth": -0.1}, "stochastic_depth = -0.1: input should be greater than or equal to 0"),
        ({"sizes": (4, 32)}, "sizes.0 = 4: input should be greater than or equal to 8"),
        (
            {"policy": "augmix"},
            "policy = 'augmix': input should be 'autoaugment', 'autoaugment_cifar10', 'randau",
        ),
        (
            {"policy": "trivialaugment", "policy_magnitude": 5},
            "policy_magnitude belongs to RandAugment; expected policy =",
        ),
        ({"policy_layers": 3}, "policy_layers belongs to RandAugment; expected policy = 'randaugment', got None"),
        ({"policy": "randaugment", "policy_magnitude": 31}, "policy_magnitude = 31: input should be less than or equal to 30"),
        ({"policy": "randaugment", "policy_layers": 0}, "policy_layers = 0: input should be greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("kind", [Train, Distill])
def test_a_number_that_cannot_be_is_one_line(kind: type[Schedule], given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as error:
        kind(**given)
    assert line in problem(error.value, kind) and "\n" not in problem(error.value, kind)


def test_sizes_above_the_images_are_refused(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sizes = \[16, 64\]: the images have 32x32 pixels; expected sizes up to 32") as error:
        train(Train(arch="resnet20", sizes=(16, 64)), tmp_path, images=small.images)
    assert "\n" not in str(error.value)


def test_stochastic_depth_drops_the_branch_of_single_images_more_often_in_late_blocks() -> None:
    torch.manual_seed(0)
    model = ResNet(TINY)
    blocks = [module for module in model.modules() if isinstance(module, Residual)]
    with stochastic_depth(model, 0.6):
        assert [block.drop for block in blocks] == pytest.approx([0.3, 0.6])
        branch = torch.ones(5000, 2, 3, 3)
        kept = blocks[1].train().kept(branch)[:, 0, 0, 0]
        assert float((kept == 0).float().mean()) == pytest.approx(0.6, abs=0.03)
        assert float(kept.max()) == pytest.approx(2.5) and float(kept.mean()) == pytest.approx(1, abs=0.08)
        assert blocks[1].eval().kept(branch) is branch
    assert [block.drop for block in blocks] == [0, 0]


@pytest.mark.parametrize("block", ["basic", "bottleneck", "split", "preact"])
def test_stochastic_depth_does_not_change_predictions(block: str) -> None:
    names = {"basic": "resnet20", "bottleneck": "resnet50", "split": "res2net50_26w_4s", "preact": "resnetv2_50"}
    spec = family_spec(names[block], num_classes=4, stem="small")
    first = tuple(stage[:1] for stage in spec.widths[:2])
    torch.manual_seed(0)
    model, x = ResNet(spec.model_copy(update={"widths": first})), torch.randn(4, 3, 16, 16)
    expected, keys = model.eval()(x), list(model.state_dict())
    with stochastic_depth(model, 0.9):
        assert torch.equal(model.eval()(x), expected)
        model.train()
        assert not torch.equal(model(x), model(x))  # other images every time
        traced = torch.fx.symbolic_trace(model.eval())
        assert "bernoulli" not in traced.code
    assert list(model.state_dict()) == keys


def test_a_network_whose_blocks_are_not_known_has_no_stochastic_depth(small: Small, tmp_path: Path) -> None:
    task = Task(own_network(), lambda model, x, y: cross_entropy(model(x), y), small.images, "own")
    with pytest.raises(
        ValueError, match=r"stochastic_depth = 0\.1: Sequential has no residual blocks that are known; expected"
    ) as error:
        fit(task, Schedule(epochs=1, batch_size=64, stochastic_depth=0.1), tmp_path)
    assert "\n" not in str(error.value)


class Seen(nn.Module):
    """A network that remembers the sides of its training images."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.sides = own_network(), []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.sides.append(x.shape[-1])
        return self.inner(x)  # type: ignore[no-any-return]


def test_a_training_grows_its_images_and_judges_at_full_size(small: Small, tmp_path: Path) -> None:
    model, judged = Seen(), []
    model.inner.register_forward_hook(lambda module, given, out: judged.append(given[0].shape[-1]) or None)
    steps = {"epochs": 4, "batch_size": 64}
    fit(
        Task(model, lambda net, x, y: cross_entropy(net(x), y), small.images, "grow"),
        Schedule(**steps, sizes=(14, 32)),
        tmp_path,
    )
    half = len(model.sides) // 2
    assert model.sides == [14] * half + [32] * (len(model.sides) - half)
    assert judged[-1] == 32


def test_all_of_it_trains_and_the_same_seed_gives_the_same_weights(small: Small, tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        config = Train(arch="resnet20", epochs=2, batch_size=64, label_smoothing=0.1, ema=0.9, **ALL)
        metrics = train(config, out, images=small.images)
        found.append((out / "model.safetensors").read_bytes())
        assert metrics["history"][-1]["loss"] < 2.5
        assert metrics["augmentation"] == [
            "shifts of up to 2 pixels", "flips", "RandAugment (2 of magnitude 9)", "random erasing (50% of the images)",
            "mixup (0.2)", "cutmix (1)", "sides of 16 and 32 pixels", "stochastic depth (0.2)",
        ]  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("augment", [None, Augment()])
def test_a_teacher_predicts_for_the_mixed_image(small: Small, tmp_path: Path, augment: Augment | None) -> None:
    """Its logits of the whole image are not used, not even where the crop is fixed."""
    student, teacher = tiny(tmp_path / "student"), tiny(tmp_path / "teacher")
    out = tmp_path / "out"
    out.mkdir()
    files = []
    original = Path.unlink

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        files.extend([path.name] if path.exists() else [])
        original(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlinked)
        config = Distill(epochs=1, batch_size=64, augment=augment, mixup=0.4, cutmix=1.0, control=True)
        metrics = distill(config, out, student=student, teacher=teacher, images=small.images)
    assert "teacher.npy" not in files and "epoch.pt" in files
    assert metrics["history"][0]["loss"] > 0 and "control" in metrics


def test_a_classifier_on_stored_features_cannot_see_changed_images(small: Small, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="features that are computed once; expected no policy") as error:
        transfer(Transfer(epochs=1, trainable_blocks=0, mixup=0.2), tmp_path / "out", model=model, images=small.images)
    assert "\n" not in str(error.value)
    assert json.loads((model / "model.json").read_text())["num_classes"] == 10
