"""Processes that hammer one store of stages, some as if on other machines; they are killed and stopped meanwhile.

    python -m benchmarks.store --processes 8 --seconds 120

Ends with an error if a finished stage is not what its function writes, is not what its manifest says, or is made again.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.conditions import started_with
from core import claim, owner
from core.cache import Artifact, Stages
from core.config import Config
from core.console import console
from core.digest import digest_of, file_digest

PARTS = 4  # files of a stage
SIZE = 50_000  # bytes of a file
AT_ONCE = 12  # stages that are made at the same time
BEAT, DEAD = 0.1, 1.0  # seconds: a process that is stopped for longer than the second one is thought dead


class Number(Config):
    number: int


def files(config: Number, out: Path) -> dict[str, int]:
    """A stage that writes its files one after the other, and continues where an earlier process ended."""
    for part in range(PARTS):
        file = out / f"part{part}"
        if not file.exists():
            temporary = out / "temporary"
            with temporary.open("wb") as opened:
                for chunk in range(10):
                    opened.write(bytes([(config.number + part) % 256]) * (SIZE // 10))
                    time.sleep(0.0005 * chunk)
            temporary.replace(file)
    return {"number": config.number}


def hammer(root: Path, seed: int, elsewhere: bool) -> None:
    """Run stages in the store `root` until this process is killed. `elsewhere`: the others seem to be on other machines."""
    claim.BEAT, claim.DEAD, console.quiet = BEAT, DEAD, True
    if elsewhere:
        machine = f"{seed:012}"
        owner.boot = lambda: machine  # type: ignore[assignment]
    draw, seen = random.Random(seed), dict[Path, int]()
    while True:
        newest = len(list(root.glob("*/manifest.json")))
        stage = Stages(root)(files, Number(number=draw.randrange(newest + AT_ONCE)))
        check(stage)
        node = (stage.path / "manifest.json").stat().st_ino
        assert seen.setdefault(stage.path, node) == node, f"{stage.path} was made again"


def check(stage: Artifact) -> None:
    """AssertionError if the finished stage is not exactly what its function writes, or not what its manifest says."""
    number = stage.metrics["number"]
    assert stage.manifest["config"] == {"number": number}
    assert {path.name for path in stage.path.iterdir()} == {"manifest.json", *(f"part{part}" for part in range(PARTS))}
    for part in range(PARTS):
        assert (stage.path / f"part{part}").read_bytes() == bytes([(number + part) % 256]) * SIZE, f"{stage.path}: part {part}"
    content = digest_of([[f"part{part}", file_digest(stage.path / f"part{part}")] for part in range(PARTS)])
    assert stage.manifest["content"] == content


def main(
    processes: Annotated[
        int, typer.Option(help="that use the store at the same time; half of them as if on other machines")
    ] = 8,
    seconds: Annotated[float, typer.Option(help="for which they do so")] = 120.0,
    work: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Hammer a store in a temporary folder, then check all that is in it."""
    if work:
        root, seed, elsewhere = work.rsplit(",", 2)
        return hammer(Path(root), int(seed), bool(int(elsewhere)))
    with tempfile.TemporaryDirectory() as folder:
        print(hammered(Path(folder), processes, seconds))


def hammered(root: Path, processes: int, seconds: float) -> str:
    """Let so many processes use the store `root`; what happened, in one line. AssertionError where something is wrong."""
    draw, started, killed, stopped = random.Random(0), 0, 0, 0
    running: list[subprocess.Popen] = []
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            while len(running) < processes:
                given = f"{root},{started},{started % 2}"
                running.append(subprocess.Popen([sys.executable, "-m", "benchmarks.store", "--work", given]))
                started += 1
            time.sleep(draw.uniform(0.1, 0.5))
            for process in running:
                assert process.poll() is None, "a process found something wrong; its traceback is above"
            chosen = draw.choice(running)
            if draw.random() < 0.5:
                chosen.send_signal(signal.SIGKILL)
                chosen.wait()
                running.remove(chosen)
                killed += 1
            else:
                chosen.send_signal(signal.SIGSTOP)
                time.sleep(draw.choice((0.1, 1.5 * DEAD)))
                chosen.send_signal(signal.SIGCONT)
                stopped += 1
    finally:
        for process in running:
            process.kill()
            process.wait()
    finished = {path.parent for path in root.glob("*/manifest.json")}
    for folder in finished:
        check(Artifact(folder, json.loads((folder / "manifest.json").read_text())))
    others = {path.name for path in root.iterdir() if path not in finished}
    assert all(name.endswith(".partial") for name in others), others
    return f"{len(finished)} stages by {started} processes, of which {killed} were killed; {stopped} stops; all are whole"


if __name__ == "__main__":
    started_with(main)
