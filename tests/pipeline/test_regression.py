"""`respress diff` and `respress report --against`: they exit as the gate does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.pipeline.test_readme import forwarded
from tests.reports.conftest import make_run

MakeRun = Callable[..., Path]
__all__ = ["make_run"]  # the fixture


@pytest.fixture
def runs(make_run: MakeRun, tmp_path: Path) -> tuple[Path, Path]:
    """A good run, and one that loses 10 points in INT8."""
    made = []
    for name, wrong in (("good", range(0)), ("bad", range(100))):
        run = make_run(wrong={"baseline-fp32": [], "student-int8": wrong}, max_drop=20.0 if name == "good" else 1.0)
        made.append(run.rename(tmp_path / name))
    return made[0], made[1]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr("sys.argv", ["respress", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.mark.parametrize("command", ["diff", "report"])
@pytest.mark.parametrize(
    ("old", "new", "code"), [("good", "bad", 1), ("bad", "good", 0), ("bad", "bad", 0), ("good", "none", 2)]
)
def test_it_exits_as_the_gate_does(
    runs: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    old: str,
    new: str,
    code: int,
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    before, now = str(tmp_path / old), str(tmp_path / new)
    words = ["diff", before, now] if command == "diff" else ["report", now, "--against", before]
    assert run(monkeypatch, *words) == code
    printed = capsys.readouterr()
    if code == 2:
        assert "no finished run in" in printed.err and len(printed.err.splitlines()) == 1
        return
    verdict = "fail" if code else "pass"
    assert f"against {before}: {verdict} (1,000 images)" in printed.out
    assert f"against {before}: {verdict}" in (tmp_path / new / "against.md").read_text()
    assert (tmp_path / new / "against.md").read_text() in page.read_text()
    assert (tmp_path / new / "report.md").exists() == (command == "report")


def test_report_alone_does_not_judge(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "report", str(runs[1])) == 0
    assert "gate: fail" in capsys.readouterr().out and not (runs[1] / "against.md").exists()


def test_make_forwards_both_folders() -> None:
    words = forwarded("report", "OUT=a b", "AGAINST=c d")
    assert words[words.index("report") :] == ["report", "a b", "--against", "c d"]
