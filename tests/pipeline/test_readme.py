"""The documented commands exist, and the Makefile forwards what the contract says. test_readme_runs.py runs the README."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.__main__ import app

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"
DOCS = sorted((PROJECT / "docs").glob("*.md"))


def forwarded(*arguments: str) -> list[str]:
    """The line that `make` would run last, without the interpreter."""
    # `make test` itself would otherwise make this one a sub-make, which tells about directories.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "-n", *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    line = done.stdout.replace("\\\n", " ").strip().splitlines()[-1]
    return shlex.split(line)


def blocks(path: Path, language: str = "") -> list[str]:
    """The code blocks of a Markdown file that are marked with `language`."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [block for marked, block in found if marked == language]


def commands(*paths: Path) -> list[str]:
    """The make commands in the code blocks of `paths`."""
    lines = [line for path in paths for block in blocks(path) for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("make ")]


def test_the_readme_is_short_and_has_commands() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 110
    assert {"make compress MODEL=resnet101", "make doctor", "make quick", "make test", "make check"} <= set(commands(README))


def test_the_readme_links_every_file_of_docs_and_every_link_leads_to_a_file() -> None:
    linked = set()
    for path in (README, *DOCS):
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
        for link in links:
            assert (path.parent / link).is_file(), f"{path.name}: {link}"
        linked |= {(path.parent / link).resolve() for link in links if path == README}
    assert {path.resolve() for path in DOCS} <= linked


@pytest.mark.parametrize("command", commands(README, *DOCS))
def test_every_documented_command_runs_something_that_exists(command: str) -> None:
    words = forwarded(*shlex.split(command)[1:])
    if command.split()[1] in ("quick", "test", "check", "bench"):
        assert words[0].startswith(".venv/bin/")
        return
    assert words[1:3] == ["-m", "pipeline"]
    known = get_command(app).commands[words[words.index("pipeline") + 1]]  # type: ignore[attr-defined]
    flags = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= flags


def test_the_makefile_forwards_every_variable_of_the_contract() -> None:
    words = forwarded(
        "compress", "MODEL=resnet50", "CHECKPOINT=a.pt", "DATA=b", "TARGETS=onnxruntime,tensorrt", "MAX_DROP=0.5", "STRICT=1",
        "GATE=recall:a b=1,top1=0.5", "BUDGET=params=10M", "RECIPE=r.toml", "OUT=o", "ARGS=--set a.b=1",
    )  # fmt: skip
    assert " ".join(words[words.index("compress") :]) == (
        "compress resnet50 --checkpoint a.pt --data b --targets onnxruntime,tensorrt --max-drop 0.5 "
        "--gate recall:a b=1,top1=0.5 --strict --budget params=10M --recipe r.toml --out o --set a.b=1"
    )


def test_the_makefile_forwards_what_is_compared() -> None:
    words = forwarded(
        "compare", "MODELS=resnet18,resnet50=a b.pt", "DATA=b", "TARGETS=onnxruntime", "MAX_DROP=0.5", "STRICT=1",
        "GATE=balanced=1", "BUDGET=params=10M", "SWEEP=0.3,0.5", "OUT=o", "ARGS=--no-finetune",
    )  # fmt: skip
    assert words[words.index("compare") :] == [
        "compare", "resnet18,resnet50=a b.pt", "--data", "b", "--targets", "onnxruntime", "--max-drop", "0.5",
        "--gate", "balanced=1", "--strict", "--budget", "params=10M", "--sweep", "0.3,0.5", "--out", "o", "--no-finetune",
    ]  # fmt: skip


def test_the_makefile_forwards_what_is_measured_on_devices() -> None:
    words = forwarded("measure", "OUT=runs/a b", "DEVICE=ssh://me@host:22", "ARGS=--device-images 2000 --device-keep")
    assert words[words.index("measure") :] == [
        "measure",
        "runs/a b",
        "ssh://me@host:22",
        "--device-images",
        "2000",
        "--device-keep",
    ]
    words = forwarded("compress", "MODEL=resnet18", "DEVICES=pi5,gateway")
    assert words[words.index("compress") :] == ["compress", "resnet18", "--devices", "pi5,gateway"]


def test_doctor_names_every_target_and_why_it_cannot() -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "doctor"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    message = done.stdout + done.stderr
    assert re.search(r"^onnxruntime +works: FP32, INT8", message, re.MULTILINE)
    assert re.search(r"^CPU +.*\d+ cores", message, re.MULTILINE) and re.search(r"^GPU +", message, re.MULTILINE)
    for name in ("tensorrt", "tensorrt_rtx"):
        assert re.search(rf"^{name} +(works: .+|builds .+; cannot run: .+|cannot build: .+)", message, re.MULTILINE)


def test_help_lists_every_target_of_the_makefile() -> None:
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    listed = {line.split("\t")[0] for line in done.stdout.splitlines() if "\t" in line}
    benchmarks = {"bench", "bench-engines", "bench-pruning", "bench-peers"}
    assert {
        "compress",
        "compare",
        "measure",
        "train",
        "report",
        "doctor",
        "quick",
        "test",
        "check",
        "help",
    } | benchmarks <= listed
