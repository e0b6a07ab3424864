"""The table of drops after few epochs, from a checkpoint to its section of RESULTS.md, on a few images."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drops import COLUMNS, Recovered, cells, over_seeds
from benchmarks.papers import main
from compress.prune import Prune, prune
from compress.ratio import POINT, STEPS, Ratio, find_ratio
from models.resnet import Spec
from tests.benchmarks.narrow import narrow
from tests.compress.parts import tiny
from tests.conftest import Small

WIDE = Spec(arch="resnet18", block="basic", in_channels=1, num_classes=10, stem_width=16, widths=(((16, 16),), ((32, 32),)))
FEW = ["data.train_limit=256", "data.test_limit=40", "prune.norm_images=64", "calibrate.images=32", "distill.batch_size=64"]


@pytest.mark.parametrize("importance", ["l2", "taylor"])
@pytest.mark.parametrize("removed", [0.2, 0.6])
def test_the_ratio_is_the_smallest_that_removes_the_share(
    removed: float, importance: str, small: Small, tmp_path: Path
) -> None:
    model = tiny(tmp_path / "model", WIDE)
    settings: dict[str, Any] = {"importance": importance, "scope": "global", "round_to": 2, "gradient_images": 64}
    found = find_ratio(Ratio(removed=removed, **settings), tmp_path, model=model, images=small.images)
    lost = []
    for ratio in (found["pruning_ratio"], found["pruning_ratio"] - 1 / STEPS):
        pruning = Prune(pruning_ratio=ratio, norm_images=64, **settings)
        metrics = prune(pruning, tmp_path, model=model, images=small.images)
        lost.append(1 - metrics["after"]["macs"] / metrics["before"]["macs"])
    assert lost[0] == found["removed"] >= removed - POINT > lost[1]


def test_a_share_that_cannot_be_removed_is_refused(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"removes at most .* of the MACs of resnet18, and 99.9% were wanted"):
        find_ratio(Ratio(removed=0.999), tmp_path, model=tiny(tmp_path / "model", WIDE), images=small.images)


def test_published_rows_stand_between_ours_by_macs_and_epochs() -> None:
    found = [
        Recovered(0.745, 20),
        Recovered(0.498, 5, [92.5, 92.7], [92.4, 92.4]),
        Recovered(0.498, 1, [92], [91]),
    ]
    rows = cells("resnet56", 93.39, found, 2)
    assert [row[1:3] for row in rows if row[0] == "respress"] == [["−49.8 %", "1"], ["−49.8 %", "5"], ["−74.5 %", "20"]]
    assert rows[0][0] == "HRankPlus" and rows[3][0] == "CHIP" and {len(row) for row in rows} == {len(COLUMNS)}
    five = rows[2]
    assert five[3:7] == ["93.39 → 92.60", "+0.79 (+0.69 … +0.89)", "+0.99 (+0.99 … +0.99)", "2 of 2"]
    assert [row[3:7] for row in rows if row[1] == "−74.5 %"] == [["", "", "", "0 of 2"]]
    assert next(row for row in rows if row[0] == "ATO")[3:5] == ["93.50 → 93.48", "+0.02"]
    assert [row[0] for row in cells("resnet20", 91.73, found, 2)] == ["respress"] * 3


@pytest.mark.parametrize(("values", "text"), [([], ""), ([0.5], "+0.50"), ([0.5, -0.1], "+0.20 (-0.10 … +0.50)")])
def test_one_seed_has_no_spread_and_none_an_empty_cell(values: list[float], text: str) -> None:
    assert over_seeds(values) == text


@pytest.mark.slow
def test_cells_that_do_not_fit_into_the_minutes_stay_empty_and_those_in_the_cache_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, runs = tmp_path / "RESULTS.md", tmp_path / "runs"
    checkpoint = f"resnet18={narrow(tmp_path)}"
    main(checkpoint, "fashion-mnist", "0.3,0.6", "1", "0", None, FEW, runs, results, launch="local:2")
    first = rows_of(results)
    output = " ".join(capsys.readouterr().out.split())
    assert len(re.findall(r"seed 0: job \d+ has ended", output)) == 2
    assert len(re.findall(r"distill \S+ fewer .{,40}: cached", output)) == 2
    assert [row[2] for row in first] == ["1", "1"] and [row[6] for row in first] == ["1 of 1"] * 2
    assert all(float(row[1].strip("−% ")) > wanted - 1 for row, wanted in zip(first, (30, 60), strict=True))
    assert all(row[4] and row[5] for row in first)

    main(checkpoint, "fashion-mnist", "0.3,0.6", "1,100000", "0,1", 20.0, FEW, runs, results)
    again = rows_of(results)
    assert [row[6] for row in again] == ["2 of 2", "0 of 2"] * 2
    assert again[1][3:6] == again[3][3:6] == ["", "", ""]
    assert results.read_text().count("## resnet18, drop after few epochs") == 1


def rows_of(results: Path) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in results.read_text().splitlines() if line.startswith("| respress")]


@pytest.mark.parametrize(
    ("checkpoint", "macs", "epochs", "message"),
    [
        ("resnet20", "0.5", "1", "--checkpoint resnet20: expected <model>=FILE"),
        ("resnet20=x.pt", "50", "1", "--macs 50.0: expected numbers above 0 and below 1"),
        ("resnet20=x.pt", "0.5", "0,1", "--epochs 0: expected numbers above 0"),
    ],
)
def test_what_is_not_understood_is_refused(checkpoint: str, macs: str, epochs: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(checkpoint, macs=macs, epochs=epochs)
