"""What the analysis says of a network of which it is known which part does nothing."""

import json
from pathlib import Path

import pytest
import torch

from compress.prunable import prunable
from compress.prune import Prune
from compress.prune_sensitivity import Sensitivity, lost, parts, sensitivity
from data.loader import Split, batches
from models.batchnorm import reestimate
from models.checkpoint import load, save
from models.cost import cost
from models.resnet import ResNet, Spec, family_spec
from tests.compress.parts import own_network, part_of, tiny
from tests.conftest import Small

SPEC = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=32, widths=(((32, 32),), ((32, 32),)))
NAMES = {"layer1 inside the blocks", "layer1 residual stream", "layer2 inside the blocks", "layer2 residual stream"}


@pytest.mark.slow
def test_a_part_that_does_nothing_costs_nothing_and_the_others_do(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", train=128, val=64)
    model, out = tiny(tmp_path / "model", SPEC), tmp_path / "out"
    out.mkdir()
    network, spec = load(model)
    network.get_parameter("layer2.0.conv2.weight").detach().zero_()
    reestimate(network, (x for x, _ in batches(Split(images, "train"), 64, shuffle=True, limit=128)))  # as the stage does
    save(network, spec, model)
    metrics = sensitivity(
        Sensitivity(images=64, norm_images=128, ratios=(0.25, 0.5), round_to=8), out, model=model, images=images
    )
    assert metrics == json.loads((out / "sensitivity.json").read_text())
    assert metrics["n"] == len(Split(images, "val")) and metrics["split"] == "val" and metrics["ratios"] == [0.25, 0.5]
    found = {part["name"]: part for part in metrics["parts"]}
    assert found.keys() == NAMES and all(part["channels"] == 32 for part in found.values())
    silent, heard = (found[f"layer2 {where}"]["points"] for where in ("inside the blocks", "residual stream"))
    assert [point["kl"] for point in silent] == pytest.approx([0, 0], abs=1e-5)
    assert [point["top1"] for point in silent] == [metrics["unpruned_top1"]] * 2
    assert heard[1]["kl"] > 1e-3
    assert all(0 < less["macs_saved"] < more["macs_saved"] < 1 for less, more in (p["points"] for p in found.values()))


def test_the_saved_macs_of_parts_that_share_no_layer_with_another_add_up(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", train=128, val=64)
    model, out = tiny(tmp_path / "model", SPEC), tmp_path / "out"
    out.mkdir()
    metrics = sensitivity(Sensitivity(images=64, norm_images=64, ratios=(0.5,)), out, model=model, images=images)
    shape = tuple(json.loads((images / "dataset.json").read_text())["input_shape"])
    whole = cost(ResNet(SPEC), shape)["macs"]
    inside = [part["points"][0]["macs_saved"] for part in metrics["parts"] if part["name"].endswith("blocks")]
    half = SPEC.model_copy(update={"widths": (((16, 32),), ((16, 32),))})
    assert sum(inside) == pytest.approx(1 - cost(ResNet(half), shape)["macs"] / whole)


def test_parts_of_the_family_and_of_a_network_of_the_users() -> None:
    spec = family_spec("resnet50", num_classes=10, in_channels=1, stem="small")
    short = spec.model_copy(update={"widths": tuple(blocks[:2] for blocks in spec.widths[:2])})
    network = ResNet(short)
    found = parts(network, prunable(network, short, Prune(), (1, 16, 16)))
    assert {name: sum(g.width for g in groups) for name, groups in found.items()} == {
        "stem": 64, "layer1 inside the blocks": 256, "layer1 residual stream": 256,
        "layer2 inside the blocks": 512, "layer2 residual stream": 512,
    }  # fmt: skip
    own = own_network()
    assert list(parts(own, prunable(own, short, Prune(), (1, 16, 16)))) == ["0"]


def test_the_divergence_is_zero_for_equal_answers_and_by_hand_for_others() -> None:
    whole, answers = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    labels = torch.tensor([0, 0])
    assert lost(whole, whole, labels) == {"kl": 0.0, "top1": 100.0}
    assert lost(answers, whole, labels) == {"kl": pytest.approx(0.5 * 0.5 * torch.tensor(4 / 3).log().item()), "top1": 50.0}


def test_a_network_that_cannot_be_pruned_is_told_of(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = part_of(small.images, tmp_path / "images", train=128, val=64)
    model, out = tiny(tmp_path / "model", SPEC), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", lambda *_, **__: 1 / 0)
    metrics = sensitivity(Sensitivity(images=64, norm_images=64), out, model=model, images=images)
    assert metrics["parts"] == []
    (note,) = metrics["notes"]
    assert note.startswith(
        "The sensitivity to pruning was left out: torch-pruning cannot take channels from resnet18 (ZeroDivision"
    )
