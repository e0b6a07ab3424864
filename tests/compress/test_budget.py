"""The search for the widths that meet a budget, on a machine whose latency is a formula of the widths."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.budget import Budget, unmet
from compress.cut import cut
from compress.prune import Prune
from compress.search import Search, search
from compress.widths import graph_of, pixels_of
from data.index import Data, index
from models.checkpoint import load
from models.cost import cost
from models.resnet import ResNet
from tests.compress.parts import TINY, tiny

SHAPE = (1, 32, 32)
BASELINE = 8.0  # ms, of the FP32 engine
SPEC = TINY.model_copy(update={"stem_width": 64, "widths": (((96, 64), (96, 64)), ((192, 128), (192, 128)))})


def milliseconds(network: nn.Module) -> float:
    """As on a CPU, roughly: every layer has an overhead and its MACs, and the MACs of small images are dearer."""
    total = 0.05
    for module, pixels in pixels_of(network, torch.zeros(1, *SHAPE)).items():
        macs = module.get_parameter("weight").numel() * pixels
        total += 0.001 + macs * (2e-7 if pixels > 16 else 8e-7) + 1e-6 * pixels * module.get_parameter("weight").shape[0]
    return total


class Machine:
    """Stands in for building and timing engines; `noise` is the largest relative error of a measurement."""

    def __init__(self, noise: float = 0.0) -> None:
        self.rng = np.random.default_rng(0)
        self.noise = noise
        self.measured = 0

    def __call__(self, networks: Sequence[nn.Module], target: str, **_: Any) -> list[dict[str, float]]:
        self.measured += len(networks)
        noises = 1 + self.noise * self.rng.uniform(-1, 1, len(networks))
        sizes = [1e4 + 1.02 * sum(p.numel() for p in network.parameters()) for network in networks]
        times = [milliseconds(network) * noise for network, noise in zip(networks, noises, strict=True)]
        return [{"p50": p50, "size": size, "baseline": BASELINE} for p50, size in zip(times, sizes, strict=True)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    index(Data(train_limit=200, test_limit=64), folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny(tmp_path / "model", SPEC)


@pytest.fixture
def run(images: Path, model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def searched(machine: Machine, **limits: Any) -> dict[str, Any]:
        config = Search(budget=Budget(**limits))
        return search(config, tmp_path, model=model, images=images, baseline=images, trial=machine)

    return searched


BOTTLENECKS = {"stem_width": 64, "widths": (((32, 32, 128), (32, 32, 128)), ((64, 64, 256), (64, 64, 256)))}
SPLITS = {"stem_width": 32, "widths": (((32, 16, 128), (32, 16, 128)), ((64, 32, 256), (64, 32, 256)))}
KINDS = {
    "basic": SPEC,
    "grouped": TINY.model_copy(update={**BOTTLENECKS, "block": "bottleneck", "groups": 8}),
    "split": TINY.model_copy(update={**SPLITS, "block": "split"}),
    "preact": TINY.model_copy(update={**BOTTLENECKS, "block": "bottleneck", "preact": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_widths_cost_is_what_the_pruned_network_costs(kind: str) -> None:
    torch.manual_seed(0)
    network = ResNet(KINDS[kind]).eval()
    graph = graph_of(network, KINDS[kind], Prune(), SHAPE)
    assert (graph.smallest < graph.full).all()
    for widths in (graph.full, graph.scaled(0.4), graph.smallest):
        pruned = cut(network, KINDS[kind], Prune(pruning_ratio=0.7), SHAPE, graph.ratios(widths))
        assert cost(pruned, SHAPE) == {"params": graph.params(widths), "macs": graph.macs(widths)}


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_half_the_latency_is_met_within_ten_percent(
    run: Callable[..., dict[str, Any]], model: Path, tmp_path: Path, noise: float
) -> None:
    machine = Machine(noise)
    network, spec = load(model)
    limit = milliseconds(network) / 2
    found = run(machine, max_latency={"onnxruntime": limit})
    ratios = json.loads((tmp_path / "plan.json").read_text())["ratios"]
    shipped = milliseconds(cut(network, spec, Prune(pruning_ratio=0.9), SHAPE, ratios))
    assert 0.9 * limit / (1 + noise) <= shipped <= limit * (1 + noise)
    assert found["measured"]["latency@onnxruntime"] == pytest.approx(shipped, rel=noise + 1e-9)
    assert found["networks"] == machine.measured <= 20
    assert any(f"{limit:.3g} ms" in line or f"latency={limit:g}ms" in line for line in found["notes"])


def test_all_limits_hold_and_a_speedup_is_over_the_baseline(run: Callable[..., dict[str, Any]]) -> None:
    budget = Budget(max_params=5e5, max_macs=8e6, max_size={"onnxruntime": 4e5}, min_speedup={"onnxruntime": 2})
    found = run(Machine(), **budget.model_dump())
    assert not unmet(budget.limits(), found["measured"])
    assert max(found["measured"][limit.key] / limit.most for limit in budget.limits()) > 0.9
    assert found["measured"]["share@onnxruntime"] == pytest.approx(found["measured"]["latency@onnxruntime"] / BASELINE)


def test_parameters_and_macs_need_no_engines(run: Callable[..., dict[str, Any]]) -> None:
    machine = Machine()
    found = run(machine, max_params=4e5)
    assert 3.6e5 < found["measured"]["params"] <= 4e5
    assert machine.measured == 0
    assert found["notes"] == [
        f"BUDGET params=400,000: before fine-tuning, resnet18 has {found['measured']['params']:,} params with the widths "
        f"found, and {found['unpruned']['params']:,} params unpruned."
    ]


def test_a_budget_that_is_met_already_costs_no_channels(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = run(Machine(), max_latency={"onnxruntime": 1e3})
    assert found["measured"] == found["unpruned"]
    assert set(json.loads((tmp_path / "plan.json").read_text())["ratios"].values()) == {0.0}


def test_the_impossible_is_refused_with_the_best_there_is(
    run: Callable[..., dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    network, spec = load(model)
    graph = graph_of(network, spec, Prune(), SHAPE)
    least = cut(network, spec, Prune(pruning_ratio=0), SHAPE, graph.ratios(graph.smallest))
    machine = Machine()
    with pytest.raises(
        ValueError, match=rf"latency=0.01ms@openvino cannot be met: .* {milliseconds(least):.3g} ms on openvino"
    ):
        run(machine, max_latency={"openvino": 0.01})
    assert machine.measured == 2  # before any search
    with pytest.raises(
        ValueError, match=f"params=100 cannot be met: .* has {cost(least, SHAPE)['params']:,} params; allow more"
    ):
        run(machine, max_params=100)
    assert not (tmp_path / "plan.json").exists()


@pytest.mark.slow
def test_each_millisecond_buys_more_importance_than_uniform_widths(run: Callable[..., dict[str, Any]], model: Path) -> None:
    network, spec = load(model)
    graph = graph_of(network, spec, Prune(), SHAPE)
    uniform = graph.scaled(0.5)
    limit = milliseconds(cut(network, spec, Prune(pruning_ratio=0), SHAPE, graph.ratios(uniform)))
    found = run(Machine(), max_latency={"onnxruntime": limit})
    assert found["measured"]["latency@onnxruntime"] <= limit
    assert found["importance_kept"] > 1.05 * np.exp(-graph.loss(uniform).sum() / graph.writers.sum())
