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
    main("resnet18", checkpoint, "0.5", 1, "0,1", 256, 40, changes, runs, results)
    rows = [line.split(" | ") for line in results.read_text().splitlines() if line.startswith(("| respress", "| torch-"))]
    assert len(rows) == 4 and len({row[1] for row in rows[:2]}) == len({row[1] for row in rows[2:]}) == 1
    for row in rows:
        assert [0 <= float(top1) <= 100 for top1 in row[4].split(", ")] == [True, True]

    stages = [json.loads(path.read_text()) for path in (runs / "resnet18" / "stages").glob("*/manifest.json")]
    trainings = [stage["config"] for stage in stages if stage["stage"] == "compress.distill.distill"]
    ways = Counter((config.pop("alpha"), config.pop("seed")) for config in trainings)
    assert ways == {(alpha, seed): 2 for alpha in (0.0, 0.5) for seed in (0, 1)}
    assert all(config == trainings[0] for config in trainings) and trainings[0]["epochs"] == 1
    (ours,) = (stage["metrics"]["after"]["macs"] for stage in stages if stage["stage"] == "compress.prune.prune")
    (plain,) = (stage["metrics"]["after"]["macs"] for stage in stages if stage["stage"] == "benchmarks.plain.torch_pruned")
    assert plain == pytest.approx(ours, rel=0.1)
    assert "the same channels" not in results.read_text()  # we left the residual stream alone
    main("resnet18", checkpoint, "0.5", 1, "0", 256, 40, [*changes[:2], "distill.alpha=0"], runs, results)
    assert "the same channels" in results.read_text()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="--seeds 'a'"):
        main("resnet18", seeds="a")
