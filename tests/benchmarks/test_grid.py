"""The search beside a grid of ratios, from a checkpoint to its section of RESULTS.md, on a few images."""

import json
from pathlib import Path

import pytest

from benchmarks.grid import Engine, main, summary
from core.cache import Artifact
from core.engine_name import EngineName
from measure.verdict import Drop, Verdict
from tests.benchmarks.narrow import narrow

FEW = [
    "data.train_limit=256", "data.test_limit=40", "prune.norm_images=64", "prune.gradient_images=32", "calibrate.images=32",
    "distill.epochs=1", "distill.min_steps=0", "distill.batch_size=64", "levels.shares=[0.5]", "levels.halvings=0",
    "ladder.rungs=[]", "gate.max_drop=100", "measure.queries=10", "measure.throughput=[1]",
    "measure.warmup=0", "expect.top1=0", "calibrate.method=max", 'levels.allocations=["importance"]',
    "levels.first=channels",
]  # fmt: skip


def engine(name: str, p50: float, megabytes: float, verdict: Verdict = "pass", minutes: float = 2) -> Engine:
    drop = Drop(
        points=0.5, relative_percent=0.5, upper_95=0.9, lost=9, gained=4, n=1000, verdict=verdict, needed=None, gates=[]
    )
    artifact = Artifact(Path("nowhere"), {"metrics": {"size_bytes": 1e6 * megabytes}})
    named = EngineName("student", "int8", name, "onnxruntime")
    return Engine(name, named, artifact, macs=1e6, top1=90, drop=drop, seconds=60 * minutes, p50=p50)


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        ([("a", 1.3, 5, "pass"), ("b", 1.0, 2, "fail")],
         "no ratio of the grid that passes is quicker, or as quick and smaller"),
        ([("a", 1.0, 2, "fail"), ("b", 1.0, 2, "inconclusive")], "no ratio of the grid passes"),
        ([("a", 1.1, 5, "pass"), ("b", 1.0, 9, "pass"), ("c", 0.5, 1, "fail")],
         "it is 2 steps of the grid slower than the best that passes: 1.20 times as long as b"),
        ([("a", 1.18, 3, "pass"), ("b", 1.3, 1, "pass")],
         "it is 1 step of the grid larger than the best that passes: 1.33 times as large as a"),
        ([("a", 1.19, 3, "pass"), ("b", 1.2, 2, "pass")],
         "it is 2 steps of the grid larger than the best that passes: 2.00 times as large as b"),
    ],
)  # fmt: skip
def test_the_steps_are_those_of_passing_ratios_that_are_quicker_or_level_and_smaller(
    grid: list[tuple[str, float, float, Verdict]], text: str
) -> None:
    (line,) = summary([engine("search", 1.2, 4, minutes=3), *(engine(*each) for each in grid)], [])
    assert line == (
        f"The engine of the search has the verdict pass; {text}. Training took 3.0 min in the search and "
        f"{2 * len(grid)}.0 min for the grid."
    )


@pytest.mark.slow
def test_the_search_and_the_ratios_are_judged_on_the_same_images(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    main(narrow(tmp_path), "resnet18", "fashion-mnist", "0.3,0.6", None, FEW, tmp_path / "runs", results)
    text = results.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| respress", "| ratio"))]
    assert [row[0].partition(" (")[0].partition(",")[0] for row in rows] == ["respress", "ratio 0.3", "ratio 0.6"]
    assert float(rows[1][1]) > float(rows[2][1]) and all(float(row[5]) > 0 and float(row[6]) > 0 for row in rows)
    (checked,) = (tmp_path / "runs").glob("**/check_images-*/manifest.json")
    judging = json.loads(checked.read_text())["metrics"]["counted"]
    assert judging == 20, "of so few test images, half choose"
    assert f"gate top1=100, {judging} test images" in text and "The engine of the search has the verdict " in text

    main(narrow(tmp_path), "resnet18", "fashion-mnist", "0.3,0.6,0.7", 0.0, FEW, tmp_path / "runs", results)
    again = results.read_text()
    assert "There was no time for ratio 0.7." in again and again.count("## resnet18, the search beside a grid of ratios") == 1


def test_a_ratio_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--ratios 30.0: expected numbers above 0 and below 1"):
        main(tmp_path / "x.pt", ratios="30")
