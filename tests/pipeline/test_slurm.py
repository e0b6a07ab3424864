"""LAUNCH=slurm:… on a real Slurm, where there is one: sbatch, and a node that takes jobs. The node may be this machine."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.job import Job
from pipeline.launch import Launch
from tests.pipeline import launched


def nodes() -> str:
    """The nodes that take jobs."""
    if shutil.which("sbatch") is None:
        return ""
    return subprocess.run(["sinfo", "--noheader", "--responding"], capture_output=True, text=True).stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that LAUNCH accepts: not in /tmp."""
    if not nodes():
        pytest.skip("there is no Slurm here: docs/cluster.md says how to start one on one machine")
    with tempfile.TemporaryDirectory(prefix=".respress-slurm-", dir=Path.home()) as found:
        yield Path(found)


@pytest.mark.slow
def test_killed_and_preempted_jobs_run_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch = Launch.of("slurm:minutes=60,cpus=1")
    assert launch
    works = (launched.plain, launched.killed_once, launched.preempted_once, launched.refused)
    launch.run([Job(work.__name__, partial(work, folder)) for work in works], folder / "jobs")
    assert (folder / "plain").read_text() == "slurm"
    assert (folder / "after the kill").exists()
    output = " ".join(capsys.readouterr().out.split())
    assert re.search(r"killed_once: job \d+ was killed; it runs again", output)
    requeued = (folder / "after the preemption").read_text()
    assert f"preempted_once: job {requeued} has ended" in output, "the same job continued"
