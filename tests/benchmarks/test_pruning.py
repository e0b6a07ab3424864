"""The benchmark of pruning from a checkpoint to its section of RESULTS.md, on a few images."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.pruning import main
from tests.benchmarks.narrow import narrow


@pytest.mark.slow
def test_a_checkpoint_becomes_a_section_and_only_the_teacher_differs(tmp_path: Path) -> None:
    results, runs = tmp_path / "RESULTS.md", tmp_path / "runs"
    checkpoint = narrow(tmp_path)
    changes = ["prune.norm_images=64", "prune.round_to=4", "prune.residual=false"]
    main("resnet18", checkpoint, "0.5", 1, "0,1", "l2,taylor", False, 256, 40, changes, runs, results)
    rows = [line.split(" | ") for line in results.read_text().splitlines() if line.startswith(("| respress", "| torch-"))]
    assert [row[0].strip("| ") for row in rows[::2]] == [
        "respress", "torch-pruning (l2, blocks only)", "torch-pruning (taylor, blocks only)"
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["distilled", "on the labels alone"] * 3
    assert all(len({row[2] for row in pair}) == 1 for pair in (rows[:2], rows[2:4], rows[4:]))
    for row in rows:
        assert [0 <= float(top1) <= 100 for top1 in row[5].split(", ")] == [True, True]

    stages = [json.loads(path.read_text()) for path in (runs / "resnet18" / "stages").glob("*/manifest.json")]
    trainings = [stage["config"] for stage in stages if stage["stage"] == "compress.distill.distill"]
    ways = Counter((config.pop("alpha"), config.pop("seed")) for config in trainings)
    assert ways == {(alpha, seed): 3 for alpha in (0.0, 0.9) for seed in (0, 1)}
    assert all(config == trainings[0] for config in trainings) and trainings[0]["epochs"] == 1
    (ours,) = (stage["metrics"]["after"]["macs"] for stage in stages if stage["stage"] == "compress.prune.prune")
    peers = [stage["metrics"]["after"]["macs"] for stage in stages if stage["stage"] == "benchmarks.plain.torch_pruned"]
    assert peers == pytest.approx([ours, ours], rel=0.1)
    assert results.read_text().count("the same channels") == 1  # l2 in the blocks, as ours
    main("resnet18", checkpoint, "0.5", 1, "0", "l2", True, 256, 40, changes, runs, results)
    assert "| torch-pruning (l2) |" in results.read_text() and "the same channels" not in results.read_text()


@pytest.mark.parametrize(("flag", "value"), [("seeds", "a"), ("peers", "l2,magnitude")])
def test_what_is_not_understood_is_refused(flag: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"--{flag} '{value.split(',')[-1]}'"):
        main("resnet18", **{flag: value})
