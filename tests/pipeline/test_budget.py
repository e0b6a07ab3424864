"""BUDGET from the command line, and engines that are really built and timed."""

from pathlib import Path

import pytest

from calibration.observe import Calibrate, observe
from calibration.place import place_qdq
from compress.budget import Budget
from compress.prune import Prune, prune
from compress.search import Search, search
from data.index import Data, index
from data.loader import Split, batches
from export.onnx import Export, export_onnx
from export.targets import tensorrt
from models.batchnorm import reestimate
from models.checkpoint import load, save
from pipeline import api
from pipeline.options import limits_of
from pipeline.trial import check_targets, size, trial
from tests.compress.parts import TINY, tiny
from tests.placements import ORT


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", {}),
        ("params=10M", {"budget.max_params": 1e7}),
        ("params=10000000", {"budget.max_params": 1e7}),
        (" Params = 1.5k , MACS=2g", {"budget.max_params": 1500, "budget.max_macs": 2e9}),
        ("size=8MB", {"budget.max_size": {"onnxruntime": 8e6}}),
        ("size=.5mb@openvino", {"budget.max_size": {"openvino": 5e5}}),
        ("latency=4ms@onnxruntime", {"budget.max_latency": {"onnxruntime": 4.0}}),
        (
            "latency=400us@onnxruntime,latency=2 ms@openvino",
            {"budget.max_latency": {"onnxruntime": pytest.approx(0.4), "openvino": 2.0}},
        ),
        ("speedup=10@onnxruntime", {"budget.min_speedup": {"onnxruntime": 10.0}}),
    ],
)
def test_budgets_are_read(text: str, limits: dict[str, object]) -> None:
    read = limits_of(text)
    assert read == limits
    Budget(**{key.removeprefix("budget."): value for key, value in read.items()})


@pytest.mark.parametrize(
    "text",
    [
        "params", "params=", "params=few", "params=-3M", "params=0", "params=1e6", "params=nan", "params=10MB",
        "params=10M@onnxruntime",
        "params=10M@", "size=8", "size=8M", "size=8MB@", "latency=4ms", "latency=4@onnxruntime", "latency=ms@onnxruntime",
        "latency=4ms@",
        "speedup=10", "speedup=-1@onnxruntime", "accuracy=90", "10M", "=", "params=10M;macs=1G",
    ],
)  # fmt: skip
def test_what_is_no_budget_is_told_in_one_line(text: str) -> None:
    with pytest.raises(
        ValueError, match="expected drop=1, params=10M, macs=2G, size=8MB, latency=4ms@onnxruntime or speedup=10@"
    ) as message:
        limits_of(f"macs=1G,{text}")
    assert "\n" not in str(message.value)


@pytest.mark.parametrize(
    "text", ["params=1M,params=2M", "size=1MB,size=2MB@onnxruntime", "latency=4ms@openvino,latency=4ms@openvino"]
)
def test_one_limit_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="twice; expected each limit once"):
        limits_of(text)


def test_an_unknown_target_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"tflite.*onnxruntime, openvino"):
        limits_of("latency=4ms@tflite")


def test_only_targets_that_run_here_and_are_built_can_have_a_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    check_targets(Budget(max_latency={"onnxruntime": 1}), ["torch", "onnxruntime"])
    with pytest.raises(ValueError, match="torch has none; expected one of onnxruntime"):
        check_targets(Budget(max_latency={"torch": 1}), ["torch"])
    with pytest.raises(ValueError, match=r"BUDGET is on .*, but TARGETS has only torch, openvino; add .* to TARGETS"):
        check_targets(Budget(max_size={"onnxruntime": 1e6}), ["torch", "openvino"])
    monkeypatch.setattr(tensorrt, "unavailable", lambda: "no NVIDIA GPU here")
    with pytest.raises(ValueError, match=r"tensorrt cannot run here \(no NVIDIA GPU here\)"):
        check_targets(Budget(min_speedup={"tensorrt": 2}), ["tensorrt"])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Images, a network of half a million parameters, its FP32 ONNX file."""
    images, onnx, own = (tmp_path_factory.mktemp(name) for name in ("images", "onnx", "own"))
    index(Data(train_limit=200, test_limit=64), images)
    spec = TINY.model_copy(update={"stem_width": 64, "widths": (((128, 64),), ((192, 128),))})
    model = tiny(own / "model", spec)
    network, _ = load(model)
    reestimate(network, (x for x, _ in batches(Split(images, "train"), 64)))  # as trained ones, no two biases are alike
    save(network.eval(), spec, model)
    export_onnx(Export(), onnx, model=model, images=images)
    return images, model, onnx


@pytest.mark.slow
def test_a_real_engine_meets_its_size(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A size, for it is the same on every machine."""
    images, model, onnx = parts
    config = Search(budget=Budget(max_size={"onnxruntime": 2e5}))
    found = search(config, tmp_path, model=model, images=images, baseline=onnx, trial=trial)
    size = found["measured"]["size@onnxruntime"]
    assert 1.7e5 < size <= 2e5 < 5e5 < found["unpruned"]["size@onnxruntime"]
    assert found["measured"]["latency@onnxruntime"] > 0 and found["measured"]["share@onnxruntime"] > 0
    # prune does what the plan says, the engine that ships has just this size
    (tmp_path / "pruned").mkdir()
    message = prune(Prune(norm_images=64), tmp_path / "pruned", model=model, images=images, plan=tmp_path)
    assert message["after"] == {key: found["measured"][key] for key in ("params", "macs")}
    (tmp_path / "onnx").mkdir()
    export_onnx(Export(), tmp_path / "onnx", model=tmp_path / "pruned", images=images)
    for name in ("ranges", "int8"):
        (tmp_path / name).mkdir()
    observe(Calibrate(images=32), tmp_path / "ranges", model=tmp_path / "onnx", images=images)
    place_qdq(ORT, tmp_path / "int8", model=tmp_path / "onnx", ranges=tmp_path / "ranges")
    shipped = (tmp_path / "int8" / "model.onnx").stat().st_size
    assert shipped <= 2e5
    assert abs(shipped - size) < 0.02 * size


@pytest.mark.slow
def test_an_impossible_budget_is_refused_with_the_best_there_is(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, model, onnx = parts
    config = Search(budget=Budget(max_latency={"onnxruntime": 1e-4}))
    with pytest.raises(
        ValueError, match=r"latency=0.0001ms@onnxruntime cannot be met: at its smallest widths .* has .* ms on onnx"
    ):
        search(config, tmp_path, model=model, images=images, baseline=onnx, trial=trial)
    assert not (tmp_path / "plan.json").exists()
    inside = Search(budget=Budget(max_params=100), prune=Prune(residual=False))
    with pytest.raises(ValueError, match=r"params=100 cannot be met: .* params; allow more, or --set prune.residual=true"):
        search(inside, tmp_path, model=model, images=images, baseline=onnx, trial=trial)


@pytest.mark.slow
def test_the_size_of_an_untrained_engine_is_that_of_a_trained_one(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, model, onnx = parts
    network, _ = load(model)
    (found,) = trial([network], "onnxruntime", options={}, threads=1, images=images, baseline=onnx, exact=True)
    assert size(network, "onnxruntime", options={}, images=images) == found["size"]


@pytest.mark.parametrize(
    "budget",
    [{"budget": "params=100"}, {"budget": "macs=1k,latency=9s@onnxruntime"}, {"budget": "size=1kB"},
     {"sweep": "params=100M,params=100"}],
    ids=str,
)  # fmt: skip
def test_what_no_network_can_meet_is_refused_before_a_baseline_is_trained(
    budget: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise AssertionError("a baseline is trained")

    monkeypatch.setattr("pipeline.baseline.train", train)
    changes = {"data.train_limit": 100, "data.test_limit": 20}
    with pytest.raises(ValueError, match="cannot be met: at its smallest widths resnet20 has"):
        api.compress("resnet20", out=tmp_path, targets=["onnxruntime"], changes=changes, **budget)  # type: ignore[arg-type]
