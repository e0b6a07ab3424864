"""The device's side of `respress measure`: receives a job over ssh, does it, prints messages. It is not part of a bundle.

stdin has a tar stream (the other modules, job.json, bundles, images), and then a line every few seconds while the connection
lives. stdout has one message per line, JSON after the word "respress". The current folder was made for this job; the shell that
started Python removes it. Needs Python 3.8, numpy and the runtimes of the bundles.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import importlib
import json
import os
import select
import shutil
import site
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE, HOME = Path.cwd(), Path.home()
SILENCE = 60  # seconds without a byte from the other side: the connection is lost
PIECE = 2**20  # bytes of a file in one message
PRINTING = threading.Lock()
CHILDREN: list[subprocess.Popen] = []
JOBS = {"probe": "machine", "predict": "measuring", "latency": "measuring", "build": "over_ssh"}  # functions of modules


class Fault(Exception):
    """What is wrong with this device, in one line."""


class Incoming:
    """stdin that fails instead of waiting for ever when the connection is lost."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def read(self, size: int) -> bytes:
        if not select.select([self.stream], [], [], SILENCE)[0]:
            raise EOFError
        return self.stream.read(size)  # type: ignore[no-any-return]


def main(stream: Any) -> None:
    """Do the job that `stream`, unbuffered, describes; print its messages, the last one with "end" or "error"."""
    try:
        hold_device()
        leave_nothing()
        members = extracted(stream)
        job = json.loads(next(members)[1])
        getattr(importlib.import_module(JOBS[job["do"]]), job["do"])(job, members)
        say(end=True)
    except (BrokenPipeError, EOFError, tarfile.ReadError):
        leave()
    except Exception as error:
        say(error=reason(error), busy=isinstance(error, BlockingIOError))


def reason(error: BaseException) -> str:
    if isinstance(error, BlockingIOError):
        return "it is busy: another measurement runs there; wait until it has ended"
    if isinstance(error, Fault):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left on it in {HERE.parent} ({error.strerror}); free some, or set TMPDIR there"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def say(**message: Any) -> None:
    with PRINTING:
        sys.stdout.write(f"respress {json.dumps(message)}\n")
        sys.stdout.flush()


def hold_device() -> None:
    """Lock the folder of temporary files until this process ends: one job at a time, and no lock file. Remove what a killed job
    left."""
    lock = os.open(str(HERE.parent), os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for left in HERE.parent.glob("respress.*"):
        if left != HERE:
            shutil.rmtree(str(left), ignore_errors=True)


def leave_nothing() -> None:
    """Let runtimes keep their caches and counters here and not in the user's home, as onnxruntime 1.31 and OpenVINO 2026 do.

    The packages that the user has installed there are still found.
    """
    os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        os.environ[name] = str(HERE)


def leave_when_lost(incoming: Incoming) -> None:
    """The other side sends a line every few seconds."""
    try:
        while incoming.read(4096):
            pass
    except (EOFError, OSError):
        pass
    leave()


def leave() -> None:
    for child in CHILDREN:
        child.kill()
    os._exit(3)


def started(command: list, folder: Path) -> Iterator[str]:
    """The lines that `command` prints in `folder`. Raises Fault with the last one when it fails."""
    child = subprocess.Popen(
        command, cwd=str(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    CHILDREN.append(child)
    assert child.stdout is not None
    line = ""
    for printed in child.stdout:
        line = printed.decode(errors="replace").strip() or line
        yield line
    if child.wait():
        raise Fault(line or f"{command[0]} failed with exit code {child.returncode}")


def extracted(stream: Any) -> Iterator[tuple]:
    """Write the files of the archive; yield (name, content) of job.json and of the images, which are not written.

    After the last one, a thread ends this process when the connection is lost.
    """
    with tarfile.open(fileobj=Incoming(stream), mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            source = archive.extractfile(member)
            assert source is not None, member.name
            if member.name == "job.json" or member.name.startswith(("images/", "kept/")):
                yield member.name, source.read()
                continue
            path = HERE / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(source, file)
    threading.Thread(target=leave_when_lost, args=(Incoming(stream),), daemon=True).start()


def wait_for_all(members: Iterator[tuple]) -> None:
    for _ in members:
        pass


def build(job: dict, members: Iterator[tuple]) -> None:
    """Run build.sh of a bundle, and send back the files that it made or changed. Its python3 is the one that runs this."""
    wait_for_all(members)
    folder, programs = HERE / job["folder"], HERE / "bin"
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python3").chmod(0o755)
    os.environ["PATH"] = f"{programs}:{os.environ.get('PATH', os.defpath)}"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    try:
        for line in started(["sh", "build.sh"], folder):
            say(line=line)
    except Fault as fault:
        if not (folder / "model.engine").exists():
            raise
        say(line=str(fault))  # an engine that verify.py does not accept is judged by its predictions
    for path in sorted(folder.iterdir()):
        if path.is_file() and before.get(path.name) != path.stat().st_mtime_ns:
            content = path.read_bytes()
            for start in range(0, len(content), PIECE):
                say(file=path.name, piece=base64.b64encode(content[start : start + PIECE]).decode())
