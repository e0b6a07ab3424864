"""Jobs for a device: files go there as one tar stream, messages come here. After a lost connection a job continues."""

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from core.console import console
from measure.device.devices import Device
from measure.device.ssh import LOST, DeviceError, DeviceLost, Ssh, last_line, messages

FIRST, MODULES = "over_ssh.py", ("machine.py", "measuring.py")  # of export/device
WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each new connection; all of them again after each part that was done
GRACE = 10  # seconds in which the device cleans up
BEAT = 5  # seconds between signs of life; the device gives up after a minute without one
ENDINGS = {73: "no folder for temporary files can be made there", 137: "Python was killed there; is its memory full?"}

Message = dict[str, Any]
Member = tuple[str, Path | bytes]  # a path on the device, and a file or its content
Reach = Callable[[Message, Callable[[], Iterable[Member]]], Iterator[Message]]


class Link:
    """Jobs for `device`. `code` is the folder with what runs there. With `keep`, the images stay there, by their content.

    It connects with the first job.
    """

    def __init__(self, device: Device, code: Path, keep: bool = False) -> None:
        self.device, self.code, self.keep = device, code, keep
        self.ssh: Ssh | None = None
        self.kept: set[str] = set()
        self.threads = device.threads

    def probe(self) -> Message:
        """What the device is and has: the message `found` of export/device/machine.py."""
        (message,) = (each for each in self.talk({"do": "probe"}, list) if "found" in each)
        found: Message = message["found"]
        self.kept = set(found["kept"])
        self.threads = self.threads or found["cores"]
        return found

    def talk(self, job: Message, members: Callable[[], Iterable[Member]]) -> Iterator[Message]:
        """The messages of the job. `members` are its files, which are made again after a lost connection.

        Then {"again": True} is the first message. Raises DeviceError with one line.
        """
        waits = iter(WAITS)
        lost = False
        while True:
            try:
                for message in self.once(job, members(), lost):
                    if "chunk" in message:
                        waits = iter(WAITS)
                    yield message
                return
            except DeviceLost as error:
                known, wait = self.ssh is not None or lost, next(waits, None)
                self.close()
                if not known or wait is None:
                    raise DeviceError(f"{error}{'; the same command continues' if known else ''}") from error
                console.print(f"{error}; connecting again in {wait} s", markup=False)
                time.sleep(wait)
                lost = True
                yield {"again": True}

    def once(self, job: Message, members: Iterable[Member], again: bool) -> Iterator[Message]:
        """The messages of the job on one connection. `again`: the one before was lost."""
        if self.ssh is None:
            self.ssh = Ssh(self.device)
        settings = {"keep": self.keep, "sudo": self.device.sudo, "threads": self.threads}
        name = self.device.name
        with tempfile.TemporaryFile() as errors:
            process = self.ssh.python(errors)
            assert process.stdin is not None and process.stdout is not None
            head = (self.code / FIRST).read_bytes() + b"\0"
            feed = Feed(process.stdin, head, self.packed({**job, **settings}, members))
            try:
                for message in messages(process.stdout):
                    if "error" in message and message["busy"] and again:
                        raise DeviceLost(f"{name}: the connection was lost, and the job that it carried has not ended there")
                    if "error" in message:
                        raise DeviceError(f"{name}: {message['error']}")
                    if "end" in message:
                        return
                    yield message
            finally:
                feed.ended.set()
                code = ended(process)
            errors.seek(0)
            raise self.ending(code, last_line(errors.read().decode(errors="replace")), feed.failure)

    def ending(self, code: int, said: str, failure: Exception | None) -> Exception:
        """The reason why the messages ended too early."""
        if failure:
            return failure
        if code == LOST:
            return DeviceLost(f"{self.device.name}: the connection was lost{f' ({said})' if said else ''}")
        why = ENDINGS.get(code) or said or f"Python ended with exit code {code}"
        return DeviceError(f"{self.device.name}: {why} (python = {self.device.python!r})")

    def packed(self, job: Message, members: Iterable[Member]) -> Iterator[Member]:
        """What runs there, the job and its files; images that the device has kept go as their name."""
        yield from ((name, self.code / name) for name in MODULES)
        yield "job.json", json.dumps(job).encode()
        for name, content in members:
            if isinstance(content, bytes) and name.startswith("images/") and self.kept:
                digest = hashlib.sha256(content).hexdigest()
                if digest in self.kept:
                    name, content = name.replace("images/", "kept/", 1) + f"/{digest}", b""
            yield name, content

    def close(self) -> None:
        if self.ssh is not None:
            self.ssh.close()
            self.ssh = None


class Feed:
    """Writes `head`, the members as a tar stream, and then signs of life into `stream`, in a thread; it closes the stream.

    `failure`: why a member could not be made.
    """

    def __init__(self, stream: IO[bytes], head: bytes, members: Iterator[Member]) -> None:
        self.stream, self.head, self.members = stream, head, members
        self.ended = threading.Event()
        self.failure: Exception | None = None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        with contextlib.suppress(BrokenPipeError), self.stream:
            self.stream.write(self.head)
            try:
                with tarfile.open(fileobj=self.stream, mode="w|") as archive:
                    for name, content in self.members:
                        if self.ended.is_set():
                            return
                        add(archive, name, content)
            except BrokenPipeError:
                raise
            except Exception as error:
                self.failure = error
                return
            self.stream.flush()
            while not self.ended.wait(BEAT):
                self.stream.write(b"\n")
                self.stream.flush()


def add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    """Add one file: nothing of it but its name and its content."""
    entry = tarfile.TarInfo(name)
    data = content if isinstance(content, bytes) else content.read_bytes()
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of `process`, which the device ends when it has removed its folder."""
    try:
        code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.terminate()
        code = process.wait()
    assert process.stdout is not None
    process.stdout.close()
    return code
