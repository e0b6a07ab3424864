"""Equalized networks answer as before, round better where channels differ widely, and are used only where that shows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from calibration.choose import Network, choose
from calibration.equalize import EQUALIZATION, equalize, pairs_of, peaks_of, scales_for
from calibration.observe import Calibrate, observe
from calibration.place import NEUTRAL, place_qdq
from calibration.rank_layers import RankLayersOf, rank_layers
from calibration.session import divergence, predict_logits
from calibration.statistics import observed, statistics
from calibration.weights import name_of
from core.graph import copied
from data.loader import Split, batches
from tests.calibration.broken import break_between, breakable
from tests.conftest import Small
from tests.placements import RTX as TRT


@pytest.fixture(scope="module")
def x(thin: Small) -> list[np.ndarray]:
    return [x.numpy() for x, _ in batches(Split(thin.images, "train"), 16, shuffle=True, limit=64)]


@pytest.fixture(scope="module")
def sound(thin: Small) -> ModelProto:
    return onnx.load(thin.onnx / "model.onnx")


@pytest.fixture(scope="module")
def broken(sound: ModelProto) -> ModelProto:
    """In FP32 the same network; one of its convolutions reads channels of which every fourth is 1,000 times as large."""
    proto = copied(sound)
    break_between(proto, *breakable(proto)[2])
    return proto


def chain() -> ModelProto:
    """Every kind of neighbours: with groups, without a ReLU or a bias, with a Clip, two readers or a shared weight between."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="plain", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="grouped", pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="depthwise", pads=[1, 1, 1, 1], group=12),
        helper.make_node("Conv", ["c3", "w4", "b4"], ["c4"], name="linear"),
        helper.make_node("Clip", ["c4", "zero", "six"], ["r4"]),
        helper.make_node("Conv", ["r4", "w5"], ["c5"], name="clipped"),
        helper.make_node("Relu", ["c5"], ["r5"]),
        helper.make_node("Conv", ["r5", "twice"], ["c6"], name="shared"),
        helper.make_node("Conv", ["c6", "twice"], ["c7"], name="again"),
        helper.make_node("Add", ["c7", "r5"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    rng = np.random.default_rng(0)
    shapes = {
        "w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 4, 3, 3), "w3": (12, 1, 3, 3), "b3": (12,), "w4": (8, 12, 1, 1), "b4": (8,),
        "w5": (8, 8, 1, 1), "twice": (8, 8, 1, 1),
    }  # fmt: skip
    constants: dict[str, Any] = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    constants |= {"zero": np.array(0.0), "six": np.array(6.0)}
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])]
    ends += [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 8])]
    initializers = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def weight(proto: ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(i for i in proto.graph.initializer if i.name == name))


def test_a_pair_has_nothing_but_a_relu_between_and_weights_of_its_own() -> None:
    found = [(name_of(pair.first), pair.between, name_of(pair.second)) for pair in pairs_of(chain())]
    assert found == [("plain", "r1", "grouped"), ("grouped", "r2", "depthwise"), ("depthwise", "c3", "linear")]


def test_an_exported_resnet_has_no_batch_norm_left_and_a_pair_in_every_block(sound: ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in sound.graph.node}
    assert len(pairs_of(sound)) == 8
    assert {name_of(p.second) for p in pairs_of(sound)} == {name_of(second) for _, second in breakable(sound)}


def test_any_scales_leave_the_answers_as_they_are(sound: ModelProto, x: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(4, 3, 8, 8)).astype(np.float32)]
    for proto, images in ((sound, x), (chain(), noise)):
        pairs = pairs_of(proto)
        sizes = {name_of(pair.first): len(weight(proto, pair.first.input[1])) for pair in pairs}
        scaled = copied(proto)
        equalize(scaled, {name: np.exp(rng.uniform(-4, 4, size)).astype(np.float32) for name, size in sizes.items()})
        before, after = predict_logits(proto, images), predict_logits(scaled, images)
        assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
        for pair in pairs:
            changed = weight(scaled, pair.first.input[1]) / weight(proto, pair.first.input[1])
            assert changed.max() > 10 * changed.min()


def test_peaks_are_the_largest_magnitudes_of_each_channel_before_and_none_behind_a_relu_are_negative() -> None:
    proto = chain()
    noise = [np.random.default_rng(i).normal(size=(n, 3, 8, 8)).astype(np.float32) for i, n in enumerate((4, 4, 1))]
    found = peaks_of(proto, noise)
    for name in ("r1", "r2", "c3"):
        seen = copied(proto)
        del seen.graph.output[:]
        seen.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        assert found[name] == pytest.approx(np.abs(predict_logits(seen, noise)).max(axis=(0, 2, 3)), rel=1e-5)
    assert set(found) == {"r1", "r2", "c3"}


def test_behind_it_activations_and_weights_share_the_spread() -> None:
    """One output channel, so that what a weight is relative to is the same for all."""
    proto = chain()
    rng = np.random.default_rng(0)
    constants = {i.name: i for i in proto.graph.initializer}
    constants["w4"].CopyFrom(numpy_helper.from_array(np.exp(rng.uniform(-2, 2, (1, 12, 1, 1))).astype(np.float32), "w4"))
    peaks = {"r1": np.ones(8, np.float32), "r2": np.ones(12, np.float32), "c3": np.exp(rng.uniform(-2, 2, 12))}
    scales = scales_for(proto, peaks)
    activations = peaks["c3"] / scales["depthwise"]
    weights = np.abs(weight(proto, "w4")).ravel() * scales["depthwise"]
    assert activations / activations.max() == pytest.approx(weights / weights.max(), rel=1e-5)
    assert activations.max() == pytest.approx(peaks["c3"].max(), rel=1e-5)
    assert activations.max() / activations.min() < peaks["c3"].max() / peaks["c3"].min()


def test_groups_read_the_channels_that_they_read() -> None:
    """Channels 0-3 go to the first half of the outputs, 4-7 to the second; a weight counts as a share of its own output's."""
    proto = chain()
    kernel = np.ones((12, 4, 3, 3), np.float32)
    kernel[:6, 2] = 0.25  # channel 2
    kernel[6:, 1] = 0.04  # channel 5
    kernel[6:] *= 50
    constants = {i.name: i for i in proto.graph.initializer}
    constants["w2"].CopyFrom(numpy_helper.from_array(kernel, "w2"))
    ones = {"r1": np.ones(8, np.float32), "r2": np.ones(12, np.float32), "c3": np.ones(12, np.float32)}
    scales = scales_for(proto, ones)["plain"]
    assert scales / scales[0] == pytest.approx([1, 1, 2, 1, 1, 5, 1, 1], rel=1e-5)


def test_silent_channels_and_silent_tensors_are_no_trouble() -> None:
    peaks = {
        "r1": np.array([0, 1, 2, 3, 4, 5, 6, 7], np.float32),
        "r2": np.zeros(12, np.float32),
        "c3": np.ones(12, np.float32),
    }
    scales = scales_for(chain(), peaks)
    assert set(scales) == {"plain", "depthwise"}
    assert np.isfinite(scales["plain"]).all() and scales["plain"].min() > 0
    assert scales["plain"].max() < 1e4 * scales["plain"].min()


def histograms(proto: ModelProto, x: list[np.ndarray]) -> Network:
    return Network(proto, statistics(proto, observed(proto), x, 4096)[1])


def test_chosen_only_where_the_answers_change_less(sound: ModelProto, broken: ModelProto, x: list[np.ndarray]) -> None:
    """Two forms of one network: the sound one is taken whichever of them is called the equalized one."""
    forms = histograms(sound, x), histograms(broken, x)
    helped = choose(forms[1], forms[0], 99.99, x, x[:1])
    assert helped.equalized and helped.neutral.name.endswith(", equalized")
    spoiled = choose(forms[0], forms[1], 99.99, x, x[:1])
    assert not spoiled.equalized and "equalized" not in spoiled.neutral.name
    assert (helped.neutral.ranges, helped.symmetric.ranges) == (spoiled.neutral.ranges, spoiled.symmetric.ranges)
    best = [min(choice.neutral.divergences.values()) for choice in (helped, spoiled)]
    assert best[0] == pytest.approx(best[1], rel=1e-3)
    tried = [name for name in spoiled.neutral.divergences if "equalized" in name]
    assert tried == [f"{spoiled.neutral.name}, equalized"]


@pytest.fixture(scope="module")
def mended(thin: Small, broken: ModelProto, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The broken network and what was observed of it, in one folder."""
    folder = tmp_path_factory.mktemp("mended")
    onnx.save(broken, folder / "model.onnx")
    return folder, observe(Calibrate(images=64), folder, model=folder, images=thin.images)


def placed(folder: Path, out: Path, **changes: Any) -> ModelProto:
    out.mkdir(exist_ok=True)
    place_qdq(NEUTRAL.model_copy(update=changes), out, model=folder, ranges=folder)
    return onnx.load(out / "model.onnx")


def test_mends_what_eight_bits_break(
    mended: tuple[Path, dict[str, Any]], thin: Small, sound: ModelProto, x: list[np.ndarray], tmp_path: Path
) -> None:
    folder, metrics = mended
    assert metrics["equalized"] == 8
    plain = {name: found for name, found in metrics["divergence"].items() if "equalized" not in name}
    best = metrics["divergence"][metrics["chosen"]]
    assert metrics["chosen"].endswith(", equalized")
    assert best < 0.1 * min(plain.values())
    # The file that a target gets is as good as that of the network that nobody broke.
    (tmp_path / "sound").mkdir()
    observe(Calibrate(images=64, equalize=False), tmp_path / "sound", model=thin.onnx, images=thin.images)
    place_qdq(NEUTRAL, tmp_path / "sound", model=thin.onnx, ranges=tmp_path / "sound")
    expected = predict_logits(sound, x)
    unbroken = divergence(expected, predict_logits(onnx.load(tmp_path / "sound/model.onnx"), x))
    assert divergence(expected, predict_logits(placed(folder, tmp_path / "out"), x)) < 2 * unbroken


def test_layers_that_stay_in_floats_and_other_placements_are_equalized_too(
    mended: tuple[Path, dict[str, Any]], broken: ModelProto, x: list[np.ndarray], tmp_path: Path
) -> None:
    expected = predict_logits(broken, x)
    second = pairs_of(broken)[2].second
    for placement in (NEUTRAL, TRT):
        everything = divergence(expected, predict_logits(placed(mended[0], tmp_path, **placement.model_dump()), x))
        for skip in (pairs_of(broken)[2].first, second):
            changes = {**placement.model_dump(), "skip": (name_of(skip),)}
            assert divergence(expected, predict_logits(placed(mended[0], tmp_path, **changes), x)) < 2 * everything + 1e-4


def test_the_ranges_between_are_those_of_the_equalized_network(
    mended: tuple[Path, dict[str, Any]], broken: ModelProto, x: list[np.ndarray]
) -> None:
    written = json.loads((mended[0] / "ranges.json").read_text())
    plain = statistics(broken, observed(broken), x, 4096)[1]
    peaks = peaks_of(broken, x)  # all of the images that calibrated
    scales = scales_for(broken, peaks)
    for pair in pairs_of(broken):
        equalized = float((peaks[pair.between] / scales[name_of(pair.first)]).max())
        assert 0.3 * equalized < written[pair.between][1] <= 1.001 * equalized  # clipped at most
    assert written["input"][1] <= plain["input"].high


def test_the_ranking_of_layers_finds_nothing_broken_in_it(
    mended: tuple[Path, dict[str, Any]], thin: Small, tmp_path: Path
) -> None:
    folder, _ = mended
    culprit = name_of(pairs_of(onnx.load(folder / "model.onnx"))[2].second)
    (tmp_path / "off").mkdir()
    off = observe(Calibrate(images=64, equalize=False), tmp_path / "off", model=folder, images=thin.images)
    assert off["equalized"] == 0 and not any("equalized" in name for name in off["divergence"])
    assert not (tmp_path / "off" / EQUALIZATION).exists()
    worst, ranking = {}, RankLayersOf(images=32, placement=NEUTRAL)
    for name, ranges in (("off", tmp_path / "off"), ("on", folder)):
        found = rank_layers(ranking, tmp_path, model=folder, ranges=ranges, images=thin.images)
        worst[name] = next(iter(found["worst"].items()))
    assert worst["off"][0] == culprit
    assert worst["on"][1] < 0.1 * worst["off"][1]
