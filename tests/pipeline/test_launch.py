"""LAUNCH: jobs of submitit on this machine. What is killed runs again; the report is that of a run without LAUNCH."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core import hardware
from core.owner import Owner, started
from pipeline import launch as launching
from pipeline.job import Job
from pipeline.launch import Launch, options_of
from tests.pipeline import launched

PROJECT = Path(__file__).resolve().parents[2]
QUICK = [
    "data.input_size=32", "expect.top1=0", "train.epochs=1", "train.batch_size=16", "distill.epochs=2", "distill.batch_size=16",
    "distill.min_steps=0", "prune.norm_images=64", "prune.round_to=4", "calibrate.images=32", "ladder.rungs=[]",
    "measure.queries=5", "measure.seconds=0.1", "measure.throughput=[1]", "measure.warmup=0", "measure.calls=2",
    "bundle.images=2",
]  # fmt: skip
SAME = [
    "id", "network", "variant", "precision", "target", "device", "status", "reason", "chosen_on", "artifact", "sha256",
    "size_bytes", "params", "macs", "accuracy", "drop", "agreement", "int8_share",
]  # fmt: skip


# What the user writes.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local", "expected local:N"),
        ("local:0", "expected local:N"),
        ("local:two", "expected local:N"),
        ("ray:2", "expected local:N, for N jobs at a time on this machine, or slurm"),
        ("slurm:gpu", "'gpu' is not an option; known: account, "),
        ("slurm:partiton=gpu", "'partiton=gpu' is not an option"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(ValueError, match=message):
        Launch.of(text)


def test_options_of_slurm_have_submitits_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = Launch.of("slurm:partition=gpu,gpus=1,cpus=8,mem=32GB")
    options = {"time": 24 * 60, "partition": "gpu", "gpus_per_node": 1, "cpus_per_task": 8, "mem": "32GB"}
    assert found == Launch("slurm", None, options)
    assert options_of("", "minutes=90,cpus-per-gpu=4") == {"time": 90, "cpus_per_gpu": 4}
    assert Launch.of("") is None


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs sbatch of Slurm"):
        Launch.of("slurm:partition=gpu")
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs submitit, which is not installed; pip install submitit"):
        Launch.of("local:2")


@pytest.mark.parametrize("folder", ["/tmp/run", "/var/tmp/a/b", "/dev/shm"])
def test_slurm_refuses_folders_that_every_machine_has_for_itself(folder: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{folder} is in /\S+, which every machine of Slurm has for itself; expected OUT, DATA"
    ):
        Launch("slurm").check_shared([Path("/home/me/runs"), Path(folder)])
    Launch("local", 2).check_shared([Path(folder)])


# Jobs.


def job(work: Callable[[Path], None], folder: Path) -> Job:
    return Job(work.__name__, partial(work, folder))


def run(folder: Path, *works: Callable[[Path], None]) -> None:
    found = Launch.of("local:2")
    assert found
    found.run([job(work, folder) for work in works], folder / "jobs")


def test_killed_and_preempted_jobs_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, launched.plain, launched.killed_once, launched.preempted_once, launched.refused)
    assert (tmp_path / "plain").read_text() == "local"
    assert (tmp_path / "after the kill").exists()
    output = " ".join(capsys.readouterr().out.split())
    assert re.search(r"killed_once: job \d+ was killed; it runs again killed_once: job \d+, log ", output)
    requeued = (tmp_path / "after the preemption").read_text()
    assert f"preempted_once: job {requeued} has ended" in output, "the same job continued"
    assert output.count("preempted_once: job") == 2
    (log,) = [file for file in (tmp_path / "jobs").glob("*.err") if "bad input" in file.read_text()]
    assert "error: bad input" in log.read_text().splitlines()


def test_a_job_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)job \d+ \(fault\) failed; \S+\.err ends with:.*a fault of ours"):
        run(tmp_path, launched.fault, launched.plain)
    assert (tmp_path / "plain").exists()


def test_a_job_that_is_always_killed_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "TRIES", 2)
    with pytest.raises(ValueError, match=r"the job for always_killed was killed 2 times.*the same command continues"):
        run(tmp_path, launched.always_killed)


def test_the_cores_are_divided_among_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run(tmp_path, launched.cores, launched.plain)
    assert (tmp_path / "cores").read_text() == f"{max(1, hardware.cores() // 2)} 1"


@pytest.mark.parametrize(("count", "visible", "expected"), [(0, None, [""]), (2, None, ["0", "1"]), (2, "4,7", ["4", "7"])])
def test_the_gpus_are_divided_among_the_jobs(
    count: int, visible: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run(tmp_path, launched.gpu, launched.gpu)
    assert sorted(path.name for path in tmp_path.glob("gpu*")) == [f"gpu {number}" for number in expected]


def test_jobs_of_one_process_and_several_processes_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="starts jobs of one process each, and NPROC or torchrun several; use one of them"):
        Launch.of("local:2")


def test_when_the_command_is_stopped_its_jobs_are_too(tmp_path: Path) -> None:
    """In a process of its own: in this one, OpenVINO may have overwritten the stack that signals run on."""
    script = (
        "import sys; from pathlib import Path; from core import stop\n"
        "from tests.pipeline import launched; from tests.pipeline.test_launch import run\n"
        "stop.on_signals()\n"
        "try: run(Path(sys.argv[1]), launched.slow)\n"
        "except stop.Terminated: print('terminated')"
    )
    command = subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (names := [path.name for path in tmp_path.iterdir() if path.name.isdigit()]) and time.monotonic() < until:
        time.sleep(0.05)
    command.send_signal(signal.SIGTERM)
    assert "terminated" in command.communicate(timeout=100)[0]
    (process,) = names
    assert not started(int(process))


# The whole way.


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures, bright at the left or at the right."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 15), ("test", 15)):
        for label in ("left", "right"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32), np.uint8)
                pixels[:, 16 * (label == "right") :][:, :16] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def command(images: Path, out: Path, *words: str) -> list[str]:
    changes = [part for change in QUICK for part in ("--set", change)]
    fixed = ["--data", str(images), "--out", str(out), "--targets", "onnxruntime", "--max-drop", "100", *changes]
    return [sys.executable, "-m", "pipeline", *words, *fixed]


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [{key: row[key] for key in SAME} for row in json.loads((out / "report.json").read_text())["rows"]]


@pytest.mark.slow
def test_a_sweep_has_the_same_rows_in_jobs_of_which_one_is_killed(images: Path, tmp_path: Path) -> None:
    words = ["compress", "resnet20", "--sweep", "0.3,0.5", "--set", "measure.threads=1", "--set", "prefer=size"]
    # With another number of threads, sums are rounded in another order. The quickest engine would depend on the moment.
    options: Any = {"cwd": PROJECT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    alone, jobs = tmp_path / "alone", tmp_path / "jobs"
    subprocess.run(command(images, alone, *words), check=True, capture_output=True, **options)
    launched_as = command(images, jobs, *words, "--launch", "local:2")
    with subprocess.Popen(launched_as, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as driver:
        while not (owners := list((jobs / "stages").glob("distill-*.partial/*.owner"))):
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.002)
        os.kill(Owner.named(owners[0].stem).process, signal.SIGKILL)
        output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert len(re.findall(r"was killed; it runs again", output)) == 1
    assert "distill 0.3: cached" in output and "distill 0.5: cached" in output
    assert rows_of(jobs) == rows_of(alone) and len(rows_of(alone)) == 8
    assert len(list((jobs / "stages").glob("distill-*"))) == 2 and not list((jobs / "stages").glob("*.partial"))


@pytest.mark.slow
def test_networks_are_compared_from_jobs(images: Path, tmp_path: Path) -> None:
    words = ["compare", "resnet20,resnet32", "--set", "prune.pruning_ratio=0.5", "--launch", "local:2"]
    done = subprocess.run(command(images, tmp_path, *words), capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("resnet20", "resnet32"):
        assert re.search(rf"{name}, baseline: job \d+ has ended", done.stdout)
        assert re.search(rf"{name}, student: job \d+ has ended", done.stdout)
        assert any(row["ships"] for row in json.loads((tmp_path / name / "report.json").read_text())["rows"])
    assert re.findall(r"^(train|distill): cached$", done.stdout, re.MULTILINE).count("distill") == 2


@pytest.mark.slow
def test_one_student_of_a_sweep_is_trained_and_nothing_else(images: Path, tmp_path: Path) -> None:
    words = ["compress", "resnet20", "--sweep", "0.3,0.5"]
    refused = subprocess.run(command(images, tmp_path, *words, "--student", "0.4"), capture_output=True, text=True, cwd=PROJECT)
    assert refused.returncode == 2
    assert refused.stderr == "error: --student '0.4': expected one of SWEEP (0.3, 0.5)\n"
    done = subprocess.run(command(images, tmp_path, *words, "--student", "0.5"), capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [json.loads(path.read_text())["name"] for path in tmp_path.glob("stages/*/manifest.json")]
    assert {"distill 0.5", "observe 0.5"} <= set(names) and "distill 0.3" not in names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stages"]
