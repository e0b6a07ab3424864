"""What pruning takes away: what the plan, the scope and the budget say, and the least important channels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.cut import cut
from compress.importance import Importance
from compress.plan import Scope, multiple, rounded
from compress.prunable import CannotPrune, prunable
from compress.prune import Prune, prune
from models.checkpoint import load
from models.cost import cost
from models.resnet import ResNet, Spec, blocks_of, family_spec, spec_of
from pipeline.recipe import load_recipe
from tests.compress.parts import part_of, tiny
from tests.conftest import Small

SHAPE = (1, 16, 16)
SCOPES: tuple[Scope, ...] = ("local", "global", "isomorphic")
SPEC = Spec(
    arch="resnet18", block="basic", in_channels=1, num_classes=5, stem_width=32, widths=(((32, 32),), ((64, 64), (48, 64)))
)


def network_of(spec: Spec = SPEC) -> ResNet:
    torch.manual_seed(0)
    return ResNet(spec).eval()


def widths(network: nn.Module) -> list[list[int]]:
    assert isinstance(network, ResNet)
    return [[conv.out_channels for conv in block.convolutions()] for blocks in blocks_of(network) for block in blocks]


def weight(network: nn.Module, name: str) -> Tensor:
    return network.get_parameter(f"{name}.weight").detach()


def test_the_plan_sets_the_ratio_of_its_groups_alone() -> None:
    network = network_of()
    assert [group.name for group in prunable(network, SPEC, Prune(), SHAPE)] == [
        "conv1", "layer1.0.conv1", "layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1",
    ]  # fmt: skip
    pruned = cut(network, SPEC, Prune(pruning_ratio=0.0), SHAPE, {"layer2.0.conv1": 0.5, "layer2.1.conv1": 1 - 16 / 48})
    assert widths(pruned) == [[32, 32], [32, 64], [16, 64]]
    pruned = cut(network, SPEC, Prune(pruning_ratio=0.5), SHAPE, {"layer2.0.conv1": 0.0})
    assert widths(pruned) == [[16, 16], [64, 32], [16, 32]]


@pytest.mark.parametrize("scope", SCOPES)
def test_the_plan_is_followed_in_every_scope_and_by_any_layer_of_the_group(scope: Scope) -> None:
    plan = {"layer2.1.conv2": 0.25, "layer2.0.conv1": 0.75}
    pruned = cut(network_of(), SPEC, Prune(pruning_ratio=0.5, scope=scope, steps=2), SHAPE, plan)
    assert widths(pruned)[1] == [16, 48] and widths(pruned)[2][1] == 48


def test_a_plan_with_an_unknown_group_or_ratio_is_refused() -> None:
    network = network_of()
    with pytest.raises(ValueError, match=r"the plan prunes fc; expected channel groups: conv1, layer1\.0\.conv1, "):
        cut(network, SPEC, Prune(pruning_ratio=0.5), SHAPE, {"fc": 0.5})
    with pytest.raises(ValueError, match=r"the plan prunes conv1; expected channel groups: layer1\.0\.conv1, "):
        cut(network, SPEC, Prune(pruning_ratio=0.5, residual=False), SHAPE, {"conv1": 0.5})
    with pytest.raises(ValueError, match=r"the pruning ratio of conv1 1\.0; expected 0 <= ratio < 1"):
        cut(network, SPEC, Prune(pruning_ratio=0.5), SHAPE, {"conv1": 1.0})


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.65, 0.8, 0.89])
def test_steps_end_at_the_widths_of_one(ratio: float) -> None:
    network = network_of()
    seen: list[list[list[int]]] = []
    stepwise = cut(
        network, SPEC, Prune(pruning_ratio=ratio, steps=3, round_to=8), SHAPE, refresh=lambda left: seen.append(widths(left))
    )
    assert widths(stepwise) == widths(cut(network, SPEC, Prune(pruning_ratio=ratio, round_to=8), SHAPE))
    assert len(seen) == 2
    for before, after in zip([widths(network), *seen], [*seen, widths(stepwise)], strict=True):
        assert all(np.greater_equal(before_, after_).all() for before_, after_ in zip(before, after, strict=True))


def test_what_a_step_changes_counts_in_the_next() -> None:
    network = network_of()

    def turn_around(left: nn.Module) -> None:
        """Of the channels that the first step kept, the first are now the largest."""
        resize(left, torch.linspace(4, 1, 24))

    def resize(left: nn.Module, norms: Tensor) -> None:
        filters = weight(left, "layer1.0.conv1")
        filters.copy_(filters / sizes(left)[:, None, None, None] * norms[:, None, None, None])

    def sizes(left: nn.Module) -> Tensor:
        return weight(left, "layer1.0.conv1").flatten(1).norm(dim=1)

    resize(network, torch.linspace(1, 4, 32))
    weight(network, "layer1.0.conv2").zero_()
    config = Prune(pruning_ratio=0.5, steps=2, round_to=8, residual=False)
    torch.testing.assert_close(sizes(cut(network, SPEC, config, SHAPE)), torch.linspace(1, 4, 32)[16:])
    turned = cut(network, SPEC, config, SHAPE, refresh=turn_around)
    torch.testing.assert_close(sizes(turned), torch.linspace(4, 1, 24)[:16])


@pytest.mark.parametrize("scope", SCOPES)
def test_a_higher_ratio_never_gives_a_larger_network_in_any_scope(scope: Scope) -> None:
    network = network_of()
    costs = [
        cost(cut(network, SPEC, Prune(pruning_ratio=r / 100, scope=scope, round_to=8), SHAPE), SHAPE)
        for r in (0, 30, 60, 75, 89)
    ]
    for smaller, larger in zip(costs[1:], costs, strict=False):
        assert smaller["params"] <= larger["params"] and smaller["macs"] <= larger["macs"]
    assert costs[-1]["params"] < costs[2]["params"]


def test_the_scope_says_which_layers_compete() -> None:
    network = network_of()
    # Of three blocks that are wired alike, the worst channels of all are in one. Scores are relative to the mean of their
    # group, so it is the spread that counts.
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                module.weight.fill_(1.0)
        weight(network, "layer2.0.conv1")[2:] *= 0.01
    config = Prune(pruning_ratio=0.25, round_to=1)
    assert widths(cut(network, SPEC, config, SHAPE)) == [[24, 24], [48, 48], [36, 48]]
    ranked = widths(cut(network, SPEC, config.model_copy(update={"scope": "isomorphic"}), SHAPE))
    assert ranked[1][0] == 28 and ranked[0][0] + ranked[2][0] == 32 + 48  # (32 + 64 + 48) / 4 = 36 go, all from one
    assert [block[1] for block in ranked] == [24, 48, 48]  # the residual streams compete with none
    overall = widths(cut(network, SPEC, config.model_copy(update={"scope": "global"}), SHAPE))
    assert overall[1][0] < ranked[1][0] and overall[0][1] == 32 and overall[1][1] == 64


def test_a_tenth_of_a_group_survives_any_rivals() -> None:
    network = network_of()
    with torch.no_grad():
        for name in "layer2.0.conv1", "layer2.0.bn1", "layer2.0.conv2":
            weight(network, name).zero_()
    pruned = widths(cut(network, SPEC, Prune(pruning_ratio=0.6, scope="isomorphic", round_to=1), SHAPE))
    assert pruned[1][0] == 7


def test_grouped_convolutions_lose_the_same_of_every_part() -> None:
    spec = family_spec("resnext50_32x4d", num_classes=5, in_channels=1, stem="small")
    narrow = spec.model_copy(update={"widths": tuple(blocks[:1] for blocks in spec.widths[:2])})
    pruned = cut(network_of(narrow), narrow, Prune(pruning_ratio=0.5), SHAPE)  # compares it with what is rebuilt
    assert widths(pruned) == [[64, 64, 128], [128, 128, 256]]


def test_the_residual_stream_can_be_left_alone() -> None:
    assert widths(cut(network_of(), SPEC, Prune(pruning_ratio=0.5, residual=False), SHAPE)) == [[16, 32], [32, 64], [16, 64]]


@pytest.mark.parametrize(("count", "size", "unit", "kept"), [
    (64, 64, 16, 64), (63, 64, 16, 48), (15, 64, 16, 16), (0, 64, 16, 16), (25, 26, 16, 16), (26, 26, 16, 26), (5, 8, 16, 8),
])  # fmt: skip
def test_widths_are_rounded_down_but_never_away(count: int, size: int, unit: int, kept: int) -> None:
    assert rounded(count, size, unit) == kept


@pytest.mark.parametrize(
    ("round_to", "width", "found"),
    [(None, 512, 16), (None, 64, 16), (None, 48, 16), (None, 47, 8), (None, 32, 8), (None, 16, 4), (None, 2, 1), (16, 16, 16)],
)
def test_narrow_layers_are_rounded_to_less_unless_it_is_said(round_to: int | None, width: int, found: int) -> None:
    assert multiple(round_to, width) == found


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.85])
def test_members_for_large_images_are_pruned_in_sixteens(arch: str, ratio: float) -> None:
    spec = family_spec(arch, num_classes=5, in_channels=1, stem="small")
    spec = spec.model_copy(update={"widths": tuple(blocks[:1] for blocks in spec.widths[:2])})
    torch.manual_seed(0)
    network = ResNet(spec).eval()
    found = [widths(cut(network, spec, Prune(pruning_ratio=ratio, round_to=round_to), SHAPE)) for round_to in (None, 16)]
    assert found[0] == found[1]


def test_the_networks_for_cifar_lose_half_of_their_inner_channels() -> None:
    spec = family_spec("resnet20", num_classes=5, in_channels=1)
    pruned = widths(cut(ResNet(spec).eval(), spec, Prune(pruning_ratio=0.5), SHAPE))
    assert pruned == [[8, 16]] * 3 + [[16, 32]] * 3 + [[32, 64]] * 3


def test_the_stage_follows_a_plan_on_disk(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", train=128, val=32)
    model, plan, out = (
        tiny(tmp_path / "model", SPEC.model_copy(update={"num_classes": 10})),
        tmp_path / "plan",
        tmp_path / "out",
    )
    plan.mkdir()
    out.mkdir()
    (plan / "plan.json").write_text(json.dumps({"ratios": {"layer2.0.conv1": 0.5}}))
    metrics = prune(Prune(pruning_ratio=0.0, norm_images=64), out, model=model, images=images, plan=plan)
    assert metrics["plan"] == {"layer2.0.conv1": 0.5}
    pruned, _ = load(out)
    assert widths(pruned) == [[32, 32], [32, 64], [48, 64]]
    shape = (1, *json.loads((images / "dataset.json").read_text())["input_shape"][1:])
    assert metrics["after"] == cost(pruned, shape)
    before = load(model)[0].state_dict()["bn1.running_mean"]
    assert not torch.equal(pruned.state_dict()["bn1.running_mean"], before)  # batch norm was re-estimated


@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_the_stage_gathers_gradients_again_in_every_step(small: Small, tmp_path: Path, name: Importance) -> None:
    images = part_of(small.images, tmp_path / "images", train=128, val=32)
    out = tmp_path / "out"
    out.mkdir()
    model = tiny(tmp_path / "model", SPEC.model_copy(update={"num_classes": 10}))
    config = Prune(importance=name, scope="isomorphic", steps=2, gradient_images=32, norm_images=64)
    metrics = prune(config, out, model=model, images=images)
    assert metrics["after"]["params"] < 0.5 * metrics["before"]["params"]
    assert all(parameter.isfinite().all() for parameter in load(out)[0].parameters())


def test_a_network_that_cannot_be_traced_is_told_of(tmp_path: Path) -> None:
    class Strange(ResNet):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no\nthanks")

    with pytest.raises(CannotPrune, match=r"cannot take channels from resnet18 \(RuntimeError: no\)"):
        cut(Strange(SPEC), SPEC, Prune(pruning_ratio=0.5), SHAPE)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    known = "'l1', 'l2', 'taylor', 'fisher', 'bn_scale', 'fpgm' or 'random'"
    with pytest.raises(ValueError, match=rf"prune\.importance = 'magic': input should be {known}"):
        load_recipe("resnet18", None, {"prune.importance": "magic"}, [])
    with pytest.raises(ValueError, match=r"prune\.scope = 'everywhere': input should be 'local', 'global' or 'isomorphic'"):
        load_recipe("resnet18", None, {"prune.scope": "everywhere"}, [])
    assert spec_of(network_of(), SPEC) == SPEC
