"""The report on the page of GitHub Actions: appended where the variable is set, and never the reason of a failure."""

from pathlib import Path

import pytest

from pipeline.step_summary import append_summary

TEXT = "# resnet18: pass – حقيبة\n"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_it_is_appended(report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    append_summary(report)
    append_summary(report)
    assert page.read_text(encoding="utf-8") == f"before\n{TEXT}\n{TEXT}\n"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_nothing_happens(
    report: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    if value is not None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", value)
    append_summary(report)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [".", "missing/page.md"])
def test_a_failure_is_one_line(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / name))
    append_summary(report)
    (line,) = capsys.readouterr().out.splitlines()
    assert "was not appended to GITHUB_STEP_SUMMARY=" in line and line.endswith(("Is a directory", "No such file or directory"))
