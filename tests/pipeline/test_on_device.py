"""What ships, measured over ssh on a device on the loopback address: its rows, the cache, the gate."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from measure.device import pixels
from measure.device.link import Link, Member, Message
from pipeline import api
from pipeline.doctor import tried
from pipeline.run import Run
from reports.on_device import forget_unavailable
from reports.render import render
from reports.rows import collect, exit_code
from reports.schema import Report, Row
from tests.pipeline.loopback import Loopback

IDS = ["baseline-fp32/onnxruntime@board", "student-int8/onnxruntime@board"]


@pytest.fixture(scope="session")
def measured(pressed: Path, sshd: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run whose engines the device has measured."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "devices.toml").write_text(sshd.entry())
        api.measure(shutil.copytree(pressed, folder / "out"), "board")
    return folder / "out"


@pytest.fixture
def out(measured: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(measured, tmp_path / "out"))


def of_device(report: Report) -> list[Row]:
    return [row for row in report.rows if row.device]


def predictions(stage: Path) -> np.ndarray:
    with np.load(stage / "predictions.npz") as arrays:
        return np.asarray(arrays["top5"])


def test_the_device_predicts_what_the_same_engine_predicts_here(measured: Path) -> None:
    report = collect(measured)
    rows = of_device(report)
    assert [row.id for row in rows] == IDS
    for row in rows:
        (here,) = (other for other in report.rows if other.id == row.id.removesuffix("@board"))
        assert (row.target, row.device, row.status) == ("onnxruntime", "board", "measured")
        assert (row.accuracy, row.drop, row.standing, row.sha256) == (here.accuracy, here.drop, here.standing, here.sha256)
        assert row.memory_bytes and row.memory_bytes > 10e6
    assert rows[1].ships and [entry.id for entry in report.gate.rows] == ["student-int8/onnxruntime", IDS[1]]
    (found,) = (measured / "stages").glob("predict_on_device-*")
    for key in ("baseline-fp32", "student-int8"):
        record = json.loads((measured / "run.json").read_text())["targets"][0]["predictions"]
        assert np.array_equal(predictions(found / "onnxruntime" / key), predictions(measured / record[key]))


def test_a_latency_is_a_number_or_has_its_reason(measured: Path) -> None:
    """This machine may be busy with other tests."""
    for row in of_device(collect(measured)):
        if row.latency_ms is None:
            assert row.reason and row.reason.startswith(("latency unmeasured: busy: ", "latency unmeasured: throttled: "))
        else:
            assert row.latency_ms.p50 <= row.latency_ms.p90 <= row.latency_ms.p99 and len(row.latency_ms.turns) == 10
            assert row.speedup and row.throughput and row.first_inference_ms


def test_the_report_says_what_the_device_is_and_did(measured: Path) -> None:
    report = collect(measured)
    (seen,) = report.devices
    assert seen.found["cores"] >= 1 and seen.found["versions"]["onnxruntime"] and (seen.images, seen.of) == (100, 100)
    for conditions in (seen.before["onnxruntime"], seen.after["onnxruntime"]):
        assert conditions["kernel"] and conditions["free_memory_bytes"] > 0 and conditions["load"] >= 0
    for name in ("report.md", "report.html"):
        assert "onnxruntime@board" in (measured / name).read_text() and "board" in (measured / name).read_text()


def test_nothing_is_measured_twice(board: Loopback, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[str] = []
    talk = Link.talk

    def noted(self: Link, job: Message, members: Any) -> Iterator[Message]:
        jobs.append(job["do"])
        return talk(self, job, members)

    noted.__module__, noted.__qualname__ = talk.__module__, talk.__qualname__
    monkeypatch.setattr(Link, "talk", noted)
    before = collect(out)
    again = api.measure(out, "board")
    busy = any(row.latency_ms is None for row in of_device(before))
    assert jobs == (["probe", "latency"] if busy else ["probe"])
    assert [row.accuracy for row in of_device(again)] == [row.accuracy for row in of_device(before)]


def test_the_rows_survive_another_report_and_another_run(measured: Path, out: Path) -> None:
    ids = [row.id for row in collect(measured).rows]
    forget_unavailable(out)  # what a run does first
    assert [row.id for row in render(out).rows] == ids


def test_the_rows_of_an_earlier_engine_are_left_out(out: Path) -> None:
    record = json.loads((out / "run.json").read_text())
    bundle = out / record["targets"][0]["bundle"] / "bundle.json"
    bundle.write_text(json.dumps({**json.loads(bundle.read_text()), "sha256": "0" * 64}))
    report = render(out)
    assert not of_device(report)
    assert [note for note in report.notes if note.startswith("board measured an earlier engine of onnxruntime")]


def wrong_on_device(out: Path, key: str, images: int) -> None:
    """Let the engine `key` predict a class that does not exist for so many images."""
    (stage,) = (out / "stages").glob(f"predict_on_device-*/onnxruntime/{key}")
    with np.load(stage / "predictions.npz") as arrays:
        top5, labels = arrays["top5"].copy(), arrays["labels"]
    top5[:, 0] = labels
    top5[:images, 0] = (labels[:images] + 1) % 10
    np.savez(stage / "predictions.npz", top5=top5, labels=labels)


@pytest.mark.parametrize(("images", "verdict", "code"), [(0, "pass", 0), (95, "fail", 1)])
def test_the_gate_judges_the_predictions_of_the_device(out: Path, images: int, verdict: str, code: int) -> None:
    """Against the baseline on the same device; the gate of this run is 90 points."""
    wrong_on_device(out, "baseline-fp32", 0)
    wrong_on_device(out, "student-int8", images)
    report = render(out)
    (row,) = (row for row in of_device(report) if row.network == "student")
    assert row.drop and (row.drop.lost, row.standing, row.ships) == (images, verdict, verdict == "pass")
    assert {entry.id: entry.verdict for entry in report.gate.rows}[row.id] == verdict
    assert exit_code(report, ["board"]) == code


def test_compress_measures_on_devices_too_on_a_sample_of_the_images(
    board: Loopback, pressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample is spread over the images that judge."""
    monkeypatch.setattr(pixels, "SIZE", 7)
    out = Path(shutil.copytree(pressed, tmp_path / "out"))
    monkeypatch.setattr(api, "run", lambda *_, **__: Run(collect(out), {}))  # the run itself is what other tests are about
    report = api.compress("resnet20", targets=["onnxruntime"], out=out, devices=["board"], device_images=20)
    assert [(row.id, row.accuracy and row.accuracy.n) for row in of_device(report)] == [(name, 20) for name in IDS]
    (stage,) = (out / "stages").glob("predict_on_device-*")
    indices = np.load(stage / "images.npy")
    assert len(indices) == 20 and (indices[0], indices[-1]) == (0, 99) and set(np.diff(indices)) <= {5, 6}
    whole = json.loads((out / "run.json").read_text())["targets"][0]["predictions"]["student-int8"]
    assert np.array_equal(predictions(stage / "onnxruntime" / "student-int8"), predictions(out / whole)[indices])
    assert {image.index for image in report.lost_images if image.row == IDS[1]} <= set(indices.tolist())


def test_images_that_the_device_keeps_are_not_sent_again(
    sshd: Loopback, pressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(sshd.entry())
    sent: list[str] = []
    packed = Link.packed

    def noted(self: Link, job: Message, members: Iterable[Member]) -> Iterator[Member]:
        for name, content in packed(self, job, members):
            sent.append(name)
            yield name, content

    monkeypatch.setattr(Link, "packed", noted)
    rows = []
    try:
        for turn in ("first", "second"):
            sent.clear()
            report = api.measure(shutil.copytree(pressed, tmp_path / turn), "board", device_keep=True)
            rows.append([row.accuracy for row in of_device(report)])
            images = [name.split("/")[0] for name in sent if name.startswith(("images/", "kept/")) and name != "images/ready"]
            assert images == ["images" if turn == "first" else "kept"] * 2
        assert rows[0] == rows[1]
        assert len(list((sshd.root / "home/.cache/respress").iterdir())) == 2
    finally:
        shutil.rmtree(sshd.root / "home/.cache")


def test_doctor_tries_the_devices(sshd: Loopback, tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    file.write_text(sshd.entry() + '\n[gone]\nhost = "ssh://nobody@127.0.0.1:1"\n\n[wrong]\nthreads = 0\n')
    states = tried(file)
    assert list(states) == ["device board", "device gone", "device wrong"]
    assert re.fullmatch(r"works: .+, \d+ cores, Python 3\..+, .*numpy .+", states["device board"])
    assert states["device gone"].startswith("cannot be had: gone cannot be reached: ")
    assert states["device wrong"].startswith("cannot be had: ") and "threads" in states["device wrong"]
    file.write_text("[board")
    assert tried(file)["devices"].startswith(f"{file} cannot be read")
    assert tried(tmp_path / "none.toml") == {}
