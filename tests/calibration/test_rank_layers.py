"""The layer that breaks a network is found, and leaving it in floating point repairs the network."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from calibration.observe import Calibrate, observe
from calibration.place import NEUTRAL, edges_to_quantize, network_of, quantize
from calibration.ranges import Range, select
from calibration.rank_layers import RankLayersOf, quantized_nodes, rank_layers, sensitivity
from calibration.session import divergence, predict_logits
from calibration.statistics import observed, statistics
from calibration.weights import name_of
from core.graph import copied
from core.placement import Placement
from data.loader import Split, batches
from tests.calibration.broken import break_between, breakable
from tests.conftest import Small
from tests.placements import RTX as TRT


@pytest.fixture(scope="module")
def x(small: Small) -> list[np.ndarray]:
    return [x.numpy() for x, _ in batches(Split(small.images, "train"), 16, shuffle=True, limit=32)]


@pytest.fixture(scope="module")
def sound(small: Small) -> ModelProto:
    return onnx.load(small.onnx / "model.onnx")


def ranges_of(proto: ModelProto, x: list[np.ndarray]) -> dict[str, Range]:
    return {name: select(h, method="max") for name, h in statistics(proto, observed(proto), x, 16384)[1].items()}


def harm(proto: ModelProto, x: list[np.ndarray], placement: Placement, *skip: str) -> float:
    """The divergence of `proto` in INT8, but for the nodes `skip`."""
    quantized = copied(proto)
    quantize(quantized, ranges_of(proto, x), placement.model_copy(update={"skip": skip}))
    return divergence(predict_logits(proto, x), predict_logits(quantized, x))


@pytest.mark.parametrize("placement", [NEUTRAL, TRT], ids=["neutral", "tensorrt"])
def test_the_layer_that_breaks_a_network_is_found_and_skipping_it_repairs_it(
    placement: Placement, sound: ModelProto, x: list[np.ndarray]
) -> None:
    broken = copied(sound)
    culprit = break_between(broken, *breakable(broken)[2])
    before, after = predict_logits(sound, x), predict_logits(broken, x)
    assert np.abs(before - after).max() < 1e-4 * np.abs(before).max()  # in FP32 it is the same network
    found = sensitivity(broken, ranges_of(broken, x), x, placement)
    first, second = list(found)[:2]
    assert first == culprit
    assert found[first] > 10 * found[second]
    assert harm(broken, x, placement) > 10 * harm(sound, x, placement)
    assert harm(broken, x, placement, culprit) < 2 * harm(sound, x, placement)


def test_every_layer_and_addition_has_a_sensitivity_the_most_sensitive_first(sound: ModelProto, x: list[np.ndarray]) -> None:
    found = sensitivity(sound, ranges_of(sound, x), x[:1], NEUTRAL)
    assert len(found) == 21 + 8  # of a resnet18
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) >= 0
    assert set(found) == set(quantized_nodes(sound, NEUTRAL))


def test_the_ranking_is_that_of_the_target_with_its_own_placement(thin: Small, tmp_path: Path) -> None:
    observe(Calibrate(images=64), tmp_path, model=thin.onnx, images=thin.images)
    images = [x.numpy() for x, _ in batches(Split(thin.images, "val"), 16, shuffle=True, limit=16)]
    found = {}
    for name, placement in (("neutral", NEUTRAL), ("tensorrt", TRT)):
        config = RankLayersOf(images=16, placement=placement)
        network, limits = network_of(thin.onnx, tmp_path, placement)
        rank_layers(config, tmp_path, model=thin.onnx, ranges=tmp_path, images=thin.images)
        found[name] = dict(json.loads((tmp_path / "rank_layers.json").read_text()))
        assert found[name] == pytest.approx(sensitivity(network, limits, images, placement), rel=1e-3, abs=1e-7)
    assert any(abs(found["tensorrt"][node] - harm) > 0.1 * harm for node, harm in found["neutral"].items())


def test_a_skipped_node_keeps_its_weights_and_reads_floats(sound: ModelProto) -> None:
    layer = next(node for node in sound.graph.node if node.op_type == "Conv" and node.input[0] != sound.graph.input[0].name)
    placed = copied(sound)
    quantize(placed, dict.fromkeys(observed(sound), (-1.0, 1.0)), NEUTRAL.model_copy(update={"skip": (name_of(layer),)}))
    left = next(node for node in placed.graph.node if name_of(node) == name_of(layer))
    assert list(left.input) == list(layer.input)
    others = [n for n in placed.graph.node if n.op_type == "Conv" and name_of(n) != name_of(layer)]
    assert others and all(n.input[1].endswith("/dequantized") for n in others)


def test_pooling_does_not_round_what_only_a_skipped_node_reads(sound: ModelProto) -> None:
    classifier = next(node for node in sound.graph.node if node.op_type == "Gemm")
    everything = edges_to_quantize(sound, NEUTRAL)
    without = edges_to_quantize(sound, NEUTRAL.model_copy(update={"skip": (name_of(classifier),)}))

    def readers(edges: dict[str, list[tuple[onnx.NodeProto, int]]]) -> set[str]:
        return {node.op_type for found in edges.values() for node, _ in found}

    gone = readers(everything) - readers(without)
    assert "Gemm" in gone
    assert gone & {"GlobalAveragePool", "ReduceMean", "AveragePool"}
    assert "MaxPool" in readers(without)
