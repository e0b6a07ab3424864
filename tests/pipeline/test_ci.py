"""The workflow of docs/ci.md: a YAML file whose commands exist and whose paths are what a run leaves."""

import shlex
from typing import Any

import yaml
from typer.main import get_command

from pipeline.__main__ import app
from tests.pipeline.test_readme import PROJECT, blocks, forwarded

LEFT = ("report.*", "junit.xml", "benchmark.json", "bundle")


def steps() -> list[dict[str, Any]]:
    (workflow,) = blocks(PROJECT / "docs/ci.md", "yaml")
    found: list[dict[str, Any]] = yaml.safe_load(workflow)["jobs"]["press"]["steps"]
    return found


def test_its_command_is_one_that_make_forwards() -> None:
    (command,) = [step["run"] for step in steps() if "run" in step]
    words = shlex.split(command)
    assert words[:3] == ["make", "-C", "respress"]
    line = forwarded(*words[3:])
    assert line[line.index("pipeline") + 1 :][:2] == ["compress", "resnet18"] and "--strict" in line
    known = {option for parameter in get_command(app).commands["compress"].params for option in parameter.opts}  # type: ignore[attr-defined]
    assert {word for word in line if word.startswith("--")} <= known


def test_it_keeps_what_a_run_leaves_also_where_the_gate_failed() -> None:
    (command,) = [step["run"] for step in steps() if "run" in step]
    (out,) = [word.removeprefix("OUT=../") for word in shlex.split(command) if word.startswith("OUT=")]
    (kept,) = [step for step in steps() if step.get("uses", "").startswith("actions/upload-artifact")]
    assert kept["if"] == "always()" and kept["with"]["path"].split() == [f"{out}/{name}" for name in LEFT]
    (curves,) = [step["with"] for step in steps() if "github-action-benchmark" in step.get("uses", "")]
    assert curves["tool"] == "customSmallerIsBetter" and curves["output-file-path"] == f"{out}/benchmark.json"
