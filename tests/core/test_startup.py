"""A command runs with any streams, user and environment. Every test starts a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# What every command does, without what takes long to import.
COMMAND = """
import sys
from core.startup import prepared
with prepared():
    from core.console import console, progress
    {body}
sys.exit(3)
"""
SPEAK = (
    r'console.print("gate: pass \xb7 \u2192 \u2265 \xfc"); print("\xb7", file=sys.stderr); '
    "bar = progress(); bar.start(); bar.stop()"
)


def run(body: str = SPEAK, shell: str = "exec", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """The command with `body`, started by `shell` "$@", with `environment` changed; an empty value removes a variable."""
    changed = {key: value for key, value in (os.environ | environment).items() if value}
    line = ["sh", "-c", f'{shell} "$@"', "sh", sys.executable, "-c", COMMAND.format(body=body)]
    return subprocess.run(line, cwd=PROJECT, env=changed, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"COLUMNS": "1"},
        {"HOME": "/nonexistent"},
        {"HOME": ""},
        {"HOME": "", "USER": "", "LOGNAME": "", "PATH": "/bin:/usr/bin"},
        {"TMPDIR": "/nonexistent"},
    ],
    ids=str,
)
def test_it_prints_in_every_environment(environment: dict[str, str]) -> None:
    done = run(**environment)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith(b"gate: pass ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_it_runs_with_closed_streams(closed: str, tmp_path: Path) -> None:
    body = f"{SPEAK}; open({str(tmp_path / 'file')!r}, 'w').write('only this')"
    done = run(body, f'exec "$@" {closed}; :')
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "file").read_text() == "only this"  # no output went into a file of ours


@pytest.mark.parametrize(
    "speak", ['print("x" * 100, flush=True)', 'console.print("x" * 100)', "raise BrokenPipeError(32, 'gone')"]
)
def test_it_ends_quietly_when_its_output_is_not_read(speak: str) -> None:
    done = run(f"for _ in range(100_000): {speak}", '{ "$@"; echo "code $?" >&2; } | true; :')
    assert done.stderr == b"code 141\n"


def test_a_full_disk_is_an_error_of_the_user() -> None:
    done = run("open('/dev/full', 'wb', buffering=0).write(b'x')")
    assert done.stderr.splitlines()[-1].startswith(b"ValueError: no space left on the disk while writing a file")


def test_a_user_without_a_name_gets_one() -> None:
    body = "import getpass; print(getpass.getuser())"
    user = ["unshare", "-U", "--map-user=12345", "--map-group=12345"]
    if not shutil.which("unshare") or subprocess.run([*user, "true"], capture_output=True).returncode:
        pytest.skip("cannot make a user namespace here")
    done = run(body, f'exec {" ".join(user)} "$@"; :', USER="", LOGNAME="", LNAME="", USERNAME="")
    assert done.stdout == b"12345\n", done.stderr


@pytest.mark.parametrize(("given", "expected"), [("", "1 1"), ("2", "2 kept")])
def test_torch_keeps_to_the_quota_and_to_the_user(given: str, expected: str) -> None:
    body = "import os, torch; n = os.environ['OMP_NUM_THREADS']; print(n, torch.get_num_threads() if n == '1' else 'kept')"
    quota = "import core.startup, core.hardware as h; h.cores = lambda: 1; core.startup.quota = lambda: 1.5; exec(sys.argv[1])"
    line = [sys.executable, "-c", f"import sys; {quota}", COMMAND.format(body=body)]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run(line, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == expected, done.stderr
