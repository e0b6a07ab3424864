"""NPROC and torchrun: the commands, their exit codes, and a run on two processes of which one is killed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.__main__ import app
from pipeline.torchrun import code_of, stopped
from tests.pipeline.test_readme import PROJECT, blocks, forwarded
from tests.pipeline.test_resume import heed_ctrl_c
from tests.several import torchrun

CONTINUES = "the same command continues where it stopped"
TORCHRUN = ["-m", "pipeline.torchrun", "--standalone", "--nproc-per-node", "2", "-m", "pipeline"]


@pytest.mark.parametrize("command", ["compress", "compare", "train"])
def test_nproc_starts_so_many_processes(command: str) -> None:
    words = forwarded(command, "NPROC=2", "OUT=o")
    assert words[1 : len(TORCHRUN) + 2] == [*TORCHRUN, command]
    assert words[words.index(command) :] == forwarded(command, "OUT=o")[3:]
    assert forwarded(command, "NPROC=1", "OUT=o") == forwarded(command, "OUT=o")


def test_the_commands_of_the_documentation_exist() -> None:
    lines = [line for block in blocks(PROJECT / "docs/training.md") for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) >= 4
    for words in map(shlex.split, lines):
        if "make" in words:
            place = words.index("make")
            words = forwarded(*words[place + 1 :], *words[:place])  # a variable before make is one after it
        else:
            assert words[0] == "torchrun"
        command = words[len(words) - words[::-1].index("pipeline") :]
        known = get_command(app).commands[command[0]]  # type: ignore[attr-defined]
        flags = {option for parameter in known.params for option in parameter.opts}
        assert {word for word in command if word.startswith("--")} <= flags


@dataclass
class Ended:
    exitcode: int
    pid: int = 42


@pytest.mark.parametrize(
    "failures, code, printed",
    [
        ({0: 1}, 1, ""),
        ({0: 2}, 2, ""),
        ({0: 3}, 3, ""),
        ({0: 70}, 70, ""),
        ({0: 130}, 130, f"interrupted; {CONTINUES}\nexit code 130: interrupted\n"),
        ({0: 143}, 143, f"terminated; {CONTINUES}\nexit code 143: terminated\n"),
        (
            {1: -9},
            143,
            f"rank 1 (process 42) was killed by SIGKILL, perhaps for lack of memory; {CONTINUES}\nexit code 143: ter",
        ),
        ({0: 143, 2: -11}, 143, f"rank 2 (process 42) was killed by SIGSEGV; {CONTINUES}\nexit code 143: terminated"),
        ({0: -15}, 143, f"rank 0 (process 42) was killed by SIGTERM; {CONTINUES}\nexit code 143: terminated"),
        ({1: 1}, 70, "rank 1 (process 42) ended with exit code 1\nexit code 70: internal error"),
    ],
)
def test_the_code_is_that_of_the_main_process_and_who_was_killed_is_named(
    failures: dict[int, int], code: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of({rank: Ended(number) for rank, number in failures.items()}) == code
    found = capsys.readouterr()
    assert (found.err + found.out).removeprefix("error: ").startswith(printed)
    assert bool(found.err + found.out) == bool(printed)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_code_of_a_command_that_was_stopped(number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped(number) == code
    assert capsys.readouterr().out.splitlines()[1].startswith(f"exit code {code}: ")


def children(process: int) -> dict[int, int]:
    """{rank: process} of the processes that torchrun has started."""
    found = {}
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(variable[5:]): int(child) for variable in variables if variable.startswith(b"RANK=")}
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_a_killed_rank_ends_the_command_in_one_line_and_torchrun_continues_it(tmp_path: Path) -> None:
    """The whole way on two processes. It takes a minute: engines are built and timed as on one."""
    changes = [
        "data.train_limit=600", "data.test_limit=200", "train.epochs=60", "train.batch_size=64", "distill.epochs=1",
        "distill.min_steps=0", "calibrate.images=128", "measure.queries=100", "measure.throughput=[1]", "prune.norm_images=128",
        "prune.pruning_ratio=0.3", "ladder.rungs=[]",
    ]  # fmt: skip
    command = ["pipeline", "compress", "tests.compress.parts:own_network", "--out", str(tmp_path), "--targets", "onnxruntime"]
    command += ["--max-drop", "90", *(part for change in changes for part in ("--set", change))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def ended_after_an_epoch(rank: int | None, how: signal.Signals) -> tuple[int, int, list[str]]:
        """The exit code, the process that got the signal (`rank`; None: the launcher), and what the training printed."""

        def saved() -> list[int]:
            return [path.stat().st_mtime_ns for path in tmp_path.glob("stages/train-*.partial/*/epoch.pt")]

        before = saved()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                torchrun(2, *command), cwd=PROJECT, env=environment, stdout=log, stderr=log, preexec_fn=heed_ctrl_c
            )
            deadline = time.monotonic() + 200
            while saved() == before:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
            hit = process.pid if rank is None else children(process.pid)[rank]
            os.kill(hit, how)
            code = process.wait()
        lines = [line for line in (tmp_path / "log").read_text().splitlines() if line]
        return code, hit, lines[lines.index("train") + 1 :]

    code, _, lines = ended_after_an_epoch(None, signal.SIGINT)
    assert code == 130
    assert [line for line in lines if " epoch " not in line] == [f"interrupted; {CONTINUES}", "exit code 130: interrupted"]
    assert len([line for line in lines if "epoch 1/60" in line]) == 1  # one process prints
    code, killed, lines = ended_after_an_epoch(1, signal.SIGKILL)
    assert code == 143
    line = f"error: rank 1 (process {killed}) was killed by SIGKILL, perhaps for lack of memory; {CONTINUES}"
    assert [line for line in lines if " epoch " not in line] == [line, "exit code 143: terminated"]
    assert not any("epoch 1/60" in line for line in lines)

    plain = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "-m", *command]
    again = subprocess.run(plain, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "epoch 60/60" in again.stdout and "epoch 1/60" not in again.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    ids = [row["id"] for row in report["rows"]]
    kinds = [f"{network}-fp32/{target}" for network in ("baseline", "student") for target in ("torch", "onnxruntime")]
    assert sorted(ids) == sorted([*kinds, "student-int8/onnxruntime"])
    judged = {row["id"]: row["accuracy"]["n"] for row in report["rows"] if row["accuracy"]}
    assert {"baseline-fp32/onnxruntime", "student-int8/onnxruntime"} <= judged.keys() and set(judged.values()) == {200}
    trained = [stage["metrics"]["processes"] for stage in report["stages"] if stage["name"] in ("train", "distill")]
    assert trained == [2, 2]

    wrong = subprocess.run(
        torchrun(2, "pipeline", "compress", "resnet7"), cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown model 'resnet7'") and wrong.stderr.count("\n") == 1
    assert wrong.stdout == "exit code 2: bad input\n"
