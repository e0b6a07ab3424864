"""A network that INT8 breaks passes the gate: equalization mends it, and without that the recovery ladder does."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.__main__ import main
from pipeline.ladder import counts

QUICK = [
    "data.train_limit=1500", "data.test_limit=300", "train.epochs=1", "calibrate.images=64", "measure.queries=10",
    "measure.throughput=[1]", "measure.warmup=0",
]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    changes = [part for change in QUICK for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments, *changes])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint: channels scaled by 1,000 behind a batch norm, and back in the convolution that reads them.

    In float32 it is the function that it was. One scale for the whole tensor leaves no steps for the other channels.
    """
    folder = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, "train", "resnet18", "--out", str(folder / "trained")) == 0
    (trained,) = folder.glob("trained/stages/train-*")
    for name in ("preprocess.json", "labels.txt"):
        shutil.copy(trained / name, folder / name)
    state = load_file(trained / "model.safetensors")
    for block in ("layer1.0", "layer2.0"):
        scaled = torch.ones(len(state[f"{block}.bn1.weight"]))
        scaled[::2] = 1000
        for name in ("weight", "bias"):
            state[f"{block}.bn1.{name}"] *= scaled
        state[f"{block}.conv2.weight"] /= scaled.reshape(1, -1, 1, 1)
    save_file(state, folder / "broken.safetensors")
    return folder / "broken.safetensors"


def rows_of(out: Path) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text())
    return {row["id"].split("/")[0]: row for row in report["rows"] if row["target"] == "onnxruntime"} | {"report": report}


@pytest.mark.slow
def test_the_layer_that_eight_bits_break_goes_back_to_floats(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["compress", "resnet18", "--checkpoint", str(broken), "--no-finetune", "--targets", "onnxruntime"]
    command += ["--out", str(tmp_path), "--max-drop", "5", "--set", "calibrate.equalize=false"]
    assert run(monkeypatch, *command, "--set", "ladder.rungs=[]") == 1
    assert rows_of(tmp_path)["student-int8"]["drop"]["verdict"] == "fail"

    assert run(monkeypatch, *command) == 0
    rows = rows_of(tmp_path)
    (shipping,) = [key for key, row in rows.items() if key != "report" and row["ships"]]
    assert shipping in ("student-mixed1", "student-mixed2")  # what was broken is found first
    mixed = rows[shipping]
    assert mixed["precision"] == "mixed" and 0.5 < mixed["int8_share"] < 1
    assert rows["report"]["gate"]["rows"] == [{"id": mixed["id"], "verdict": mixed["drop"]["verdict"]}]
    (note,) = [note for note in rows["report"]["notes"] if shipping in note and "passes" in note]
    assert "of 29 layers in floating point" in note
    assert (tmp_path / "bundle/onnxruntime/engine.onnx").stat().st_size == mixed["size_bytes"]

    stages = {path.name for path in (tmp_path / "stages").iterdir()}
    for limit, code in (("-90", 1), ("4.5", 0)):  # a changed limit judges again what is there, and nothing is built
        assert run(monkeypatch, *command, "--max-drop", limit) == code
        judged = rows_of(tmp_path)
        assert {key for key in judged if key != "report"} == {key for key in rows if key != "report"}
        assert {path.name.split("-")[0] for path in (tmp_path / "stages").iterdir() if path.name not in stages} <= {"bundle"}
        notes = [note for note in judged["report"]["notes"] if 'was climbed for GATE="top1=5", not for GATE="top1=' in note]
        assert len(notes) == code
    assert rows_of(tmp_path)[shipping]["ships"]


@pytest.mark.slow
def test_equalization_mends_it_before_the_ladder_is_needed(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["compress", "resnet18", "--checkpoint", str(broken), "--no-finetune", "--targets", "onnxruntime"]
    assert run(monkeypatch, *command, "--out", str(tmp_path), "--max-drop", "5") == 0
    rows = rows_of(tmp_path)
    assert rows["student-int8"]["drop"]["verdict"] == "pass"
    assert not [row for row in rows if row.startswith("student-mixed")]
    (observed,) = [stage for stage in rows["report"]["stages"] if stage["name"] == "observe"]
    assert observed["metrics"]["equalized"] == 8
    kept = min(found for name, found in observed["metrics"]["divergence"].items() if "equalized" not in name)
    assert observed["metrics"]["divergence"][observed["metrics"]["chosen"]] < 0.1 * kept


def test_each_rung_takes_more_layers_back() -> None:
    assert counts(10) == [1, 2, 3, 5, 8]
    assert counts(0) == []
