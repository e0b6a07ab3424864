"""Two networks pressed, timed side by side and compared; what one is refused for does not cost the other."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.cache import Artifact, Stages
from core.engine_name import EngineName
from data.gated import gated
from data.index import Data, index
from measure.calls import EngineError
from models.checkpoint import Load, load_checkpoint
from models.resnet import ResNet, family_spec
from pipeline.__main__ import main
from pipeline.compare import Entry, check_same, on_the_same_images, requested, time_together
from pipeline.recipe import load_recipe
from pipeline.run import Run
from reports.run_folder import TargetResult
from tests.widths import narrow

FACTORIES = """
from torch import nn


def network(width, num_classes, in_channels):
    def layer(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    features = [layer(in_channels, width), layer(width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(2 * width, num_classes))


def narrow(num_classes=2, in_channels=3):
    return network(16, num_classes, in_channels)


def wide(num_classes=2, in_channels=3):
    return network(64, num_classes, in_channels)
"""
QUICK = [
    "data.input_size=32", "expect.top1=0", "train.epochs=1", "train.batch_size=16", "distill.epochs=1", "distill.min_steps=0",
    "prune.norm_images=64", "prune.pruning_ratio=0.5",
    "calibrate.images=32", "ladder.rungs=[]", "measure.queries=10",
    "measure.throughput=[1,2]", "measure.warmup=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures, bright at the left or at the right; the factories of two networks can be imported."""
    root = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 15)):
        for label in ("left", "right"):
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (40, 40), np.uint8)
                pixels[:, 20 * (label == "right") :][:, :20] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (root / "compared_networks.py").write_text(FACTORIES)
    sys.path.insert(0, str(root))
    return root / "data"


def run(monkeypatch: pytest.MonkeyPatch, out: Path, models: str, data: Path, *arguments: str) -> int:
    changes = [part for change in QUICK for part in ("--set", change)]
    command = ["compare", models, "--data", str(data), "--out", str(out), "--targets", "onnxruntime"]
    return call(monkeypatch, *command, *changes, *arguments)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def engines_of(out: Path) -> dict[str, dict[str, Any]]:
    (table,) = json.loads((out / "compare.json").read_text())["targets"]
    assert table["target"] == "onnxruntime"
    return {engine["id"].removesuffix("/onnxruntime"): engine for engine in table["engines"]} | {"table": table}


@pytest.mark.slow
def test_two_models_side_by_side(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both, names = "compared_networks:narrow,compared_networks:wide", ["compared_networks:narrow", "compared_networks:wide"]
    alike = ["--set", "data.choose_from_test=true"]  # as where one of the networks is a checkpoint
    assert run(monkeypatch, tmp_path, both, images, "--max-drop", "100", *alike) == 0
    engines = engines_of(tmp_path)
    assert list(engines) == [f"{name}/{key}" for name in names for key in ("baseline-fp32", "student-int8")] + ["table"]
    for name in names:
        report = json.loads((tmp_path / name.replace(":", ".") / "report.json").read_text())
        rows = {row["id"].split("/")[0]: row for row in report["rows"] if row["target"] == "onnxruntime"}
        for key in ("baseline-fp32", "student-int8"):
            engine = engines[f"{name}/{key}"]
            assert [engine[f] for f in ("accuracy", "drop", "size_bytes", "macs")] == [
                rows[key][f] for f in ("accuracy", "drop", "size_bytes", "macs")
            ]
            assert engine["latency_ms"]["n"] >= 10 and engine["best"]["batch"] in (1, 2)
        assert engines[f"{name}/student-int8"]["ships"] and engines[f"{name}/student-int8"]["minutes"] > 0
    assert engines[f"{names[0]}/student-int8"]["size_bytes"] < engines[f"{names[1]}/student-int8"]["size_bytes"]
    (timed,) = (tmp_path / "stages").glob("latency-*")
    taken = json.loads((timed / "manifest.json").read_text())["metrics"]["timed"]
    assert {key: engine["latency_ms"]["p50"] for key, engine in engines.items() if key != "table"} == {
        key: times["p50"] for key, times in taken.items()
    }, "all in one stage, so that they can be compared"
    choices = {choice["what"]: choice["engine"].removesuffix("/onnxruntime") for choice in engines["table"]["choices"]}
    assert choices["smallest"] == f"{names[0]}/student-int8"
    assert choices["quickest"] == min((f"{n}/student-int8" for n in names), key=lambda k: float(taken[k]["p50"]))
    assert engines[choices["quickest"]]["front"] and engines[choices["most accurate"]]["front"]

    page = (tmp_path / "compare.html").read_text()
    for file in ("compare.html", "compare.md", f"{names[0].replace(':', '.')}/report.html"):
        (tmp_path / file).unlink()
    assert call(monkeypatch, "report", str(tmp_path)) == 0
    assert (tmp_path / "compare.html").read_text() == page
    assert (tmp_path / "compare.md").exists() and (tmp_path / names[0].replace(":", ".") / "report.html").exists()

    # Another network that is refused, and another limit: the first two come from the cache.
    (tmp_path / "bad.pth").write_text("no weights")
    three = f"{both},resnet18={tmp_path / 'bad.pth'}"
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, three, images, "--max-drop", "100", *alike) == 2
    refused = engines_of(tmp_path)["resnet18/student-int8"]
    assert refused["status"] == "unavailable" and "bad.pth" in refused["why_not"] and not refused["ships"]
    assert capsys.readouterr().err == f"error: resnet18: {refused['why_not']}\n"
    again = engines_of(tmp_path)
    assert {key: again[key] for key in engines if key != "table"} == {key: engines[key] for key in engines if key != "table"}
    assert refused["why_not"] in (tmp_path / "compare.md").read_text()

    assert run(monkeypatch, tmp_path, both, images, "--max-drop", "-100", *alike) == 1
    engines = engines_of(tmp_path)
    assert engines["table"]["choices"] == [] and engines["table"]["notes"] == ["No model passes the gate (top1=-100) here."]
    assert "the limit is -100" in engines[f"{names[0]}/student-int8"]["why_not"]
    assert not any(engine["front"] for key, engine in engines.items() if key != "table")


@pytest.mark.slow
def test_each_model_is_swept_and_sends_its_best(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["compared_networks:narrow", "compared_networks:wide"]
    assert run(monkeypatch, tmp_path, ",".join(names), images, "--max-drop", "100", "--sweep", "0.3,0.7") == 0
    engines = engines_of(tmp_path)
    for name in names:
        report = json.loads((tmp_path / name.replace(":", ".") / "report.json").read_text())
        assert {row["variant"] for row in report["rows"] if row["network"] == "student"} == {"0.3", "0.7"}
        (shipped,) = (row["id"] for row in report["rows"] if row["ships"] and row["target"] == "onnxruntime")
        assert engines[f"{name}/{shipped.removesuffix('/onnxruntime')}"]["ships"]
    assert len(engines) == 2 * len(names) + 1, "of every model the baseline and what ships"


def test_a_comparison_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compare.json").write_text("{}")
    assert call(monkeypatch, "report", str(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "compare.json was not written by this version" in line and "run make compare again" in line


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("resnet18", "at least two"),
        ("resnet18,resnet19", "unknown model 'resnet19'"),
        ("resnet18,resnet18", "names resnet18-trained twice"),
        ("resnet18=a/x.pth,resnet18=b/x.pth", "names resnet18-x twice"),
        ("resnet18=none.pth,resnet34=none.pth", "resnet34: none.pth cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], models: str, message: str
) -> None:
    assert run(monkeypatch, tmp_path, models, images) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "compare.json").exists()


def test_a_network_may_come_with_several_checkpoints() -> None:
    found = requested("resnet18, resnet50=a/x.pth, resnet50=y.pth, resnet50")
    assert [network.name for network in found] == ["resnet18", "resnet50-x", "resnet50-y", "resnet50-trained"]
    assert [network.checkpoint for network in found] == [None, Path("a/x.pth"), Path("y.pth"), None]


@pytest.mark.parametrize(("checkpoint", "from_test"), [(None, False), ("mine.pth", True)])
def test_with_a_checkpoint_the_same_images_judge_all(checkpoint: str | None, from_test: bool) -> None:
    trained = load_recipe("resnet18", None, {}, ["onnxruntime"])
    given = load_recipe("resnet18", None, {"checkpoint": checkpoint} if checkpoint else {}, ["onnxruntime"])
    entries = on_the_same_images({"a": Entry("resnet18", trained, {"0.3": trained}), "b": Entry("resnet18", given, {})})
    recipes = [recipe for entry in entries.values() for recipe in (entry.recipe, *entry.sweep.values())]
    assert [recipe.data.choose_from_test for recipe in recipes] == [from_test] * 3


def test_all_must_be_judged_on_the_same_labelled_images(images: Path, tmp_path: Path) -> None:
    step = Stages(tmp_path / "stages")
    data = Data(name=str(images), channels=3, input_size=32)
    first, larger = (step(index, data.model_copy(update={"input_size": side})) for side in (32, 40))
    check_same({"a": first, "b": larger})
    fewer = step(index, data.model_copy(update={"test_limit": 10}))
    with pytest.raises(ValueError, match="same test images: a 30 of data, b 10 of data; pass the same DATA"):
        check_same({"a": first, "b": fewer})
    (tmp_path / "plain").mkdir()
    for i, path in enumerate(sorted((images / "val").rglob("*.png"))):
        (tmp_path / "plain" / f"{i}.png").symlink_to(path)
    torch.save(ResNet(narrow(family_spec("resnet18", num_classes=2))).state_dict(), tmp_path / "mine.pth")
    network = step(load_checkpoint, Load(arch="resnet18"), checkpoint=tmp_path / "mine.pth")
    nameless = step(index, data.model_copy(update={"name": str(tmp_path / "plain")}), network=network)
    with pytest.raises(ValueError, match="plain has no labels"):
        check_same({"a": nameless, "b": nameless})


def test_the_order_of_a_networks_classes_makes_no_other_images(images: Path, tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    index(Data(name=str(images), channels=3, input_size=32), found)
    before = gated(found)
    dataset, labels = json.loads((found / "dataset.json").read_text()), np.load(found / "test.labels.npy")
    np.save(found / "test.labels.npy", 1 - labels)
    assert gated(found) != before
    (found / "dataset.json").write_text(json.dumps({**dataset, "classes": dataset["classes"][::-1]}))
    assert gated(found) == before


@pytest.mark.parametrize("untimed", [[], ["a/baseline-fp32"], ["a/student-int8", "b/student-int8"]])
def test_an_engine_that_cannot_be_timed_leaves_the_others(untimed: list[str], tmp_path: Path) -> None:
    engine = Artifact(tmp_path, {})
    int8 = EngineName("student", "int8", "", "onnxruntime")
    result = TargetResult(
        "onnxruntime", engines={EngineName.baseline("onnxruntime"): engine, int8: engine}, latency=engine, candidate=int8
    )
    runs: Any = {name: (load_recipe("resnet18", None, {}, []), Run(Any, {"onnxruntime": result})) for name in "ab"}

    def step(*_: Any, engines: dict[str, Artifact], images: dict[str, Artifact], **__: Any) -> Artifact:
        assert engines.keys() == images.keys()
        for name in engines:
            if name in untimed:
                raise EngineError(name, RuntimeError("out of\nmemory"))
        return Artifact(tmp_path, {"metrics": {"timed": dict.fromkeys(engines)}})

    found = time_together(runs, {"a": engine, "b": engine}, step)["onnxruntime"]  # type: ignore[arg-type]
    every = [f"{name}/{key}" for name in "ab" for key in ("baseline-fp32", "student-int8")]
    assert list(found["timed"]) == [name for name in every if name not in untimed]
    assert found["notes"] == [f"{name} cannot be timed beside the others: out of memory" for name in untimed]
