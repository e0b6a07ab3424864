"""The verdict in words: what a reader who knows nothing of the field has to know first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reports.headline import headline, in_words
from reports.rows import collect
from reports.speed import speeds_in_words

MakeRun = Callable[..., Path]
JARGON = ("top-1", "p50", "INT8", "FP32", "Tango", "quantiz", "KL", "MACs", "baseline", "points")


def said(out: Path) -> tuple[str, str]:
    report = collect(out)
    opening = headline(report)
    words = in_words(report, opening, speeds_in_words(report.rows)[opening.row.id] if opening else "–")
    assert not [word for word in JARGON if word in words.verdict + words.because]
    return words.verdict, words.because


@pytest.mark.parametrize(
    ("wrong", "max_drop", "verdict"),
    [
        (range(20), 1.0, "Ready to ship: it loses less than the limit allows."),
        (range(25), 1.0, "Not decided: these images do not show that it is good enough."),
        (range(60), 1.0, "Do not ship: it loses more than the limit allows."),
    ],
)
def test_the_first_sentence_is_the_verdict(make_run: MakeRun, wrong: range, max_drop: float, verdict: str) -> None:
    assert said(make_run(wrong={"student-int8": wrong}, max_drop=max_drop))[0] == verdict


def test_the_second_sentence_says_what_is_gained_and_lost(make_run: MakeRun) -> None:
    _, because = said(make_run(wrong={"student-int8": range(25)}))
    assert because.startswith("Against the original network it is 16.2× smaller and 8.00× as fast. ")
    assert "Of every 100 images it gets 0.50 fewer right than the original; with 95 % confidence it loses at most " in because
    assert because.endswith("; the limit is 1. Measured on 1,000 images.")


def test_a_gain_is_not_a_loss(make_run: MakeRun) -> None:
    _, because = said(make_run(wrong={"student-int8": [], "baseline-fp32": range(60)}))
    assert "it gets 6.00 more right" in because and "it loses none and gains at least " in because


def test_without_labels_nothing_is_said_about_being_right(make_run: MakeRun) -> None:
    _, because = said(make_run(labelled=False, wrong={"student-int8": range(25)}))
    assert "its result is not that of the original" in because and "which of the two is right is not known" in because


def test_what_was_not_measured_has_no_verdict(make_run: MakeRun) -> None:
    verdict, because = said(make_run(measured=False))
    assert verdict == "Not measured: there is no verdict." and because == "needs another CPU"


def test_a_file_that_grew_is_larger(make_run: MakeRun) -> None:
    _, because = said(make_run(sizes=(10_000_000, 10_000_000, 20_000_000)))
    assert "it is 2.00× larger and" in because
