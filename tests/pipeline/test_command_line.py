"""The command line itself: its flags, its version, its shell completion, and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pipeline import __main__ as command_line
from pipeline import __version__
from tests.pipeline.test_readme import PROJECT

PINNED = Path(__file__).with_name("command_line.txt")
HEAVY = ("torch", "onnx", "onnxruntime", "onnx_ir", "scipy", "numpy", "torch_pruning", "openvino")


def described() -> Iterator[str]:
    """Every command and every flag with its help line."""
    for name, command in get_command(command_line.app).commands.items():  # type: ignore[attr-defined]
        yield f"{name}: {command.help}"
        for parameter in command.params:
            yield f"  {' / '.join([*parameter.opts, *parameter.secondary_opts])}: {parameter.help}"


def test_no_flag_is_added_or_changed_unseen() -> None:
    text = "\n".join(described()) + "\n"
    if os.environ.get("RENEW"):
        PINNED.write_text(text)
    assert text == PINNED.read_text(), "renew it with RENEW=1 pytest tests/pipeline/test_command_line.py, and read the diff"


def test_every_flag_has_a_help_line() -> None:
    assert not [line for line in described() if line.endswith((": None", ": "))]


def python(program: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", program, *arguments]
    found = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(line, cwd=PROJECT, env=found, capture_output=True, text=True)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_do_not_wait_for_heavy_imports(flag: str) -> None:
    program = f"""
import sys
from pipeline.__main__ import main
try:
    main()
finally:
    print("imported:", *{set(HEAVY)} & set(sys.modules))
"""
    done = python(program, flag)
    assert done.returncode == 0, done.stderr
    assert "compress" in done.stdout if flag == "--help" else f"respress {__version__}" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "imported:"


def test_shells_complete_the_commands() -> None:
    program = "import sys; sys.argv[0] = 'respress'; from pipeline.__main__ import main; main()"
    done = python(program, _RESPRESS_COMPLETE="complete_bash", COMP_WORDS="respress com", COMP_CWORD="1")
    assert done.stdout.split() == ["compress", "compare"], done.stderr


ENDINGS = {
    "gate failed": (lambda: _exit(1), 1, "exit code 1: gate failed"),
    "bad input": (lambda: _raise(ValueError("no such file;\n pass another")), 2, "exit code 2: bad input"),
    "target unavailable": (lambda: _exit(3), 3, "exit code 3: target unavailable"),
    "a fault of ours": (lambda: _raise(KeyError("rows")), 70, "exit code 70: internal error"),
    "all is well": (lambda: None, 0, "done"),
}


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_last_line_of_the_output_names_the_exit_code(
    ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end, code, line = ENDINGS[ending]
    app = typer.Typer()

    @app.command()
    def stage() -> None:
        end()
        print("done")

    monkeypatch.setattr(command_line, "app", app)
    monkeypatch.setattr("sys.argv", ["respress"])
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as exit_:
            command_line.main()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    printed = capsys.readouterr()
    assert (exit_.value.code, printed.out.splitlines()[-1]) == (code, line)
    expected = {2: 1, 70: None}.get(code, 0)  # a traceback has as many lines as it needs
    assert expected is None or len(printed.err.splitlines()) == expected, printed.err


# In a process of its own: in one that has used OpenVINO, a signal handler of Python can end the process.
@pytest.mark.parametrize(("name", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_ends_with_its_exit_code(name: str, code: int, word: str) -> None:
    program = (
        "import signal, sys, typer\n"
        "from pipeline import __main__ as command_line\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored\n"
        "command_line.app = typer.Typer()\n"
        "@command_line.app.command()\n"
        f"def stage() -> None: signal.raise_signal(signal.{name})\n"
        "sys.argv = ['respress']\n"
        "command_line.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (code, f"exit code {code}: {word}", "")


def test_the_installed_command_and_the_module_are_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--version"], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == f"respress {__version__}\n", done.stderr
    project = (PROJECT / "pyproject.toml").read_text()
    assert 'respress = "pipeline.__main__:main"' in project and 'attr = "pipeline.__version__"' in project
