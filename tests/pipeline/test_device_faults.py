"""What can be wrong with a device: one line, exit code 3, a row with the reason, and nothing is left there."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from measure.device import link, pixels, predict
from measure.device.link import Link, Member
from pipeline import devices
from pipeline.__main__ import main
from reports.rows import collect
from tests.pipeline.loopback import Loopback

Fault = Callable[[Loopback, pytest.MonkeyPatch], AbstractContextManager[None]]


@pytest.fixture
def out(pressed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pressed, tmp_path / "out"))


def measure(out: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `respress measure`."""
    monkeypatch.setattr(sys, "argv", ["respress", "measure", str(out), device])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def entry(board: Loopback, **changes: object) -> None:
    Path("devices.toml").write_text(board.entry(**changes))


def without_numpy(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    entry(board, python=board.program(f'exec {sys.executable} -S -E "$@"'))
    return nullcontext()


def no_python(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    entry(board, python="/opt/none/python3")
    return nullcontext()


def killed(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """As the kernel does where memory is full."""
    entry(board, python=board.program("kill -9 $$"))
    return nullcontext()


def unreachable(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    entry(board, options=["-F", str(board.config), "-p", "1"])
    return nullcontext()


@contextmanager
def other_host_key(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = board.root / "known"
    content = known.read_text()
    known.write_text(f"[127.0.0.1]:{board.port} {(board.root / 'user.pub').read_text()}")
    try:
        yield
    finally:
        known.write_text(content)


def no_key(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    options = [f"UserKnownHostsFile={board.root}/known", "IdentityFile=/dev/null", "IdentityAgent=none"]
    host = f"ssh://127.0.0.1:{board.port}"
    entry(board, host=host, options=["-F", "none", *(part for each in options for part in ("-o", each))])
    return nullcontext()


@contextmanager
def busy(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another measurement runs."""
    lock = os.open(board.root / "tmp", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def full_disk(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = str(board.root / "tmp")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    try:
        yield
        assert not list(Path(folder).iterdir())
    finally:
        subprocess.run(["umount", folder], check=True)


def changed_engine(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    files_of = predict.files_of

    def changed(engines: Mapping[str, Path]) -> Iterator[Member]:
        for name, content in files_of(engines):
            if name.endswith("engine.onnx") and isinstance(content, Path):
                content = content.read_bytes()[:-1] + b"?"
            yield name, content

    monkeypatch.setattr(predict, "files_of", changed)
    return nullcontext()


def always_lost(board: Loopback, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """The connection is lost as soon as the engines run."""
    monkeypatch.setattr(link, "WAITS", (0.01, 0.01))
    once = Link.once

    def lost(self: Link, job: link.Message, *rest: object) -> Iterator[link.Message]:
        for message in once(self, job, *rest):  # type: ignore[arg-type]
            if "verified" in message:
                assert self.ssh
                self.ssh.master.kill()
            yield message

    monkeypatch.setattr(Link, "once", lost)
    return nullcontext()


FAULTS: dict[str, tuple[Fault, str]] = {
    "a python without numpy": (without_numpy, "board has no numpy and no onnxruntime for onnxruntime: run `"),
    "no python": (no_python, "board: "),
    "python is killed": (killed, "Python was killed there; is its memory full?"),
    "nothing listens": (unreachable, "board cannot be reached: "),
    "another host key": (other_host_key, "Host key verification failed"),
    "no key is accepted": (no_key, "Permission denied"),
    "another measurement": (busy, "board: it is busy: another measurement runs there"),
    "a full disk": (full_disk, "board: no space left on it in "),
    "an engine changed under way": (changed_engine, "it changed under way; measure again"),
    "the connection is lost again and again": (always_lost, "; the same command continues"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing(
    case: str, board: Loopback, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault, message = FAULTS[case]
    with fault(board, monkeypatch):
        code = measure(out, "board", monkeypatch)
    (line,) = capfd.readouterr().err.splitlines()
    assert code == 3 and line.startswith("error: ") and message in line, line
    (row,) = (row for row in collect(out).rows if row.device)
    assert (row.id, row.status, f"error: {row.reason}") == ("student-int8/onnxruntime@board", "unavailable", line)


@pytest.mark.parametrize("who", ["the connection here", "the session there"])
def test_a_lost_connection_continues_where_it_was(
    who: str, board: Loopback, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pixels, "SIZE", 10)
    monkeypatch.setattr(link, "WAITS", (0.01,))
    links: list[Link] = []
    saved: list[str] = []
    save = predict.save

    class Noted(Link):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            links.append(self)

    def saved_and_lost(path: Path, top5: Mapping[str, str]) -> None:
        save(path, top5)
        saved.append(path.name)
        if len(saved) == 4:
            ssh = links[0].ssh
            assert ssh
            if who == "the connection here":
                ssh.master.kill()
            else:
                end_sessions(board)

    monkeypatch.setattr(devices, "Link", Noted)
    monkeypatch.setattr(predict, "save", saved_and_lost)
    assert measure(out, "board", monkeypatch) == 0
    printed = capfd.readouterr()
    assert "board: the connection was lost" in printed.out and "connecting again" in printed.out and not printed.err
    assert sorted(saved) == sorted(f"{k}.npz" for k in range(10)), "no part is predicted twice, but those under way"
    (row,) = (row for row in collect(out).rows if row.device and row.network == "student")
    assert row.accuracy and row.accuracy.n == 100


def end_sessions(board: Loopback) -> None:
    """Kill every process of sshd but the one that listens."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        name, _, fields = status.read_text().rpartition(")")
        if name.endswith(("(sshd", "(sshd-session")) and int(fields.split()[1]) == board.server:
            os.kill(int(status.parent.name), signal.SIGKILL)


@pytest.mark.parametrize(
    ("content", "device", "message"),
    [
        (None, "-oProxyCommand=x", "expected an entry of devices.toml"),
        (None, "ssh://user@", "expected an entry of devices.toml"),
        ("[board]\nhost = 3", "board", "devices.toml, [board]: host = 3"),
        ("[board]\nhost = 'a'\nport = 22", "board", "unknown key 'port'; known keys: name, host, python"),
        ("[board]\nhost = '-v'", "board", "is an option and not a host"),
        ("[board]\npassword = 'x'", "board", "may be a secret"),
        ("[board", "board", "expected TOML"),
        ("[board]\ntargets = ['openvino']", "board", "'openvino', which does not ship; expected some of onnxruntime"),
    ],
)
def test_a_wrong_entry_is_bad_input(
    content: str | None, device: str, message: str, board: Loopback, out: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Path("devices.toml").unlink()
    if content:
        Path("devices.toml").write_text(content)
    if "openvino" in str(content):
        entry(board, targets=["openvino"])
    monkeypatch.setattr(sys, "argv", ["respress", "measure", str(out), "--", device])
    with pytest.raises(SystemExit) as end:
        main()
    (line,) = capfd.readouterr().err.splitlines()
    assert end.value.code == 2 and message in line, line


def test_a_folder_without_a_run_is_bad_input(
    board: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert measure(tmp_path / "none", "board", monkeypatch) == 2
    assert "no finished run in" in capfd.readouterr().err
