"""The peer that prunes: as near to the wanted MACs as torch-pruning can come, and fine-tuned without a teacher."""

from pathlib import Path
from typing import get_args

import pytest
from safetensors.torch import load_file

from benchmarks.plain import Criterion, Plain, narrowed, on_labels, torch_pruned
from compress.distill import Distill, distill
from models.checkpoint import load
from models.cost import cost
from models.resnet import ResNet, Spec
from tests.compress.parts import part_of, tiny
from tests.conftest import Small

SHAPE = (1, 32, 32)
WIDE = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=16, widths=(((16, 16),), ((32, 32),)))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("wide") / "model", WIDE)


@pytest.fixture(scope="module")
def all_costs(wide: Path) -> list[int]:
    """MACs at every ratio there is, by brute force."""
    network, spec = load(wide)
    return [cost(narrowed(network, spec, Plain(macs=1), step / 16, 4, SHAPE), SHAPE)["macs"] for step in range(16)]


@pytest.mark.parametrize("share", (0.9, 0.4, 0.15))
def test_no_other_ratio_comes_nearer_to_the_wanted_macs(
    share: float, wide: Path, all_costs: list[int], small: Small, tmp_path: Path
) -> None:
    network, _ = load(wide)
    wanted = int(share * cost(network, SHAPE)["macs"])
    found = torch_pruned(Plain(macs=wanted, round_to=4), tmp_path, model=wide, images=small.images)
    assert found["round_to"] == 4
    assert abs(found["after"]["macs"] - wanted) == min(abs(macs - wanted) for macs in all_costs)
    pruned, _ = load(tmp_path)
    assert isinstance(pruned, ResNet) and pruned.fc.out_features == 10
    assert cost(pruned, SHAPE) == found["after"] and found["before"] == cost(network, SHAPE)


def test_channels_are_rounded_to_less_where_the_macs_are_out_of_reach(wide: Path, small: Small, tmp_path: Path) -> None:
    network, spec = load(wide)
    wanted = cost(narrowed(network, spec, Plain(macs=1), 0.75, 4, SHAPE), SHAPE)["macs"]
    found = torch_pruned(Plain(macs=wanted, round_to=16), tmp_path, model=wide, images=small.images)
    assert (found["round_to"], found["pruning_ratio"]) == (4, 0.75) and found["after"]["macs"] == wanted


@pytest.mark.parametrize("importance", get_args(Criterion))
def test_blocks_only_leaves_the_residual_stream_whole(importance: Criterion, wide: Path, small: Small, tmp_path: Path) -> None:
    network, _ = load(wide)
    half = cost(network, SHAPE)["macs"] // 2
    torch_pruned(Plain(macs=half, importance=importance, residual=False, round_to=4), tmp_path, model=wide, images=small.images)
    _, spec = load(tmp_path)
    assert isinstance(spec, Spec) and spec.stem_width == WIDE.stem_width
    for (block,), (whole,) in zip(spec.widths, WIDE.widths, strict=True):
        assert block[0] < whole[0] and block[1] == whole[1]


def test_taylor_and_l2_keep_as_many_channels_but_not_the_same(wide: Path, small: Small, tmp_path: Path) -> None:
    weights = []
    half = cost(load(wide)[0], SHAPE)["macs"] // 2
    for criterion in get_args(Criterion):
        out = tmp_path / criterion
        out.mkdir()
        torch_pruned(Plain(macs=half, importance=criterion, round_to=4), out, model=wide, images=small.images)
        weights.append(load_file(out / "model.safetensors"))
    assert {name: tensor.shape for name, tensor in weights[0].items()} == {n: t.shape for n, t in weights[1].items()}
    assert not weights[0]["conv1.weight"].equal(weights[1]["conv1.weight"])


def test_what_is_fine_tuned_on_the_labels_never_hears_the_teacher(wide: Path, small: Small, tmp_path: Path) -> None:
    config = on_labels(Distill(epochs=5, min_steps=300, batch_size=32, feature=1.0, control=True, augment=None), 1)
    images = part_of(small.images, tmp_path / "part", train=96)
    other = tiny(tmp_path / "other")
    weights = []
    for teacher in (wide, other):
        out = tmp_path / f"taught by {teacher.name}"
        out.mkdir()
        metrics = distill(config, out, student=wide, teacher=teacher, images=images)
        assert metrics["epochs"] == 1 and metrics["notes"] == []
        weights.append(load_file(out / "model.safetensors"))
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert not weights[0]["fc.weight"].equal(load_file(wide / "model.safetensors")["fc.weight"])
