"""The table of ways to recover accuracy, from a checkpoint to its section of RESULTS.md, on a few images."""

from pathlib import Path

import pytest

from benchmarks.recovery import main
from tests.benchmarks.narrow import narrow
from tests.benchmarks.test_papers import FEW

CHOOSING = [*FEW, "data.choose_share=0.5"]


def rows_of(results: Path) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in results.read_text().splitlines() if line.startswith("| ")]


@pytest.mark.slow
def test_every_way_is_trained_at_equal_epochs_and_later_seeds_come_later(tmp_path: Path) -> None:
    checkpoint, results, runs = f"resnet18={narrow(tmp_path)}", tmp_path / "RESULTS.md", tmp_path / "runs"
    common = {"data": "fashion-mnist", "macs": "0.3", "rates": "0.02", "changes": CHOOSING, "runs": runs, "results": results}
    main(checkpoint, epochs="1,2", ways="0,3", seeds="0", **common)  # type: ignore[arg-type]
    head, *first = rows_of(results)
    assert head == ["loss", "peak rate", "1 epoch", "2 epochs", "seeds"]
    assert [row[:2] + row[4:] for row in first] == [
        ["squared logits", "0.02", "1"],
        ["KL of standardized logits, T = 2", "0.02", "1"],
    ]
    main(checkpoint, epochs="1,2", ways="0,3", seeds="0,1", minutes=1e-9, **common)  # type: ignore[arg-type]
    assert rows_of(results)[1:] == first  # of the second seed, no training had time to start
    assert results.read_text().count("of its MACs, recovery") == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"checkpoint": "resnet20"}, "--checkpoint resnet20: expected <model>=FILE"),
        ({"macs": "50"}, "--macs 50.0: expected numbers above 0 and below 1"),
        ({"ways": "0,6"}, "--ways 6: expected numbers above -1 and below 6"),
    ],
)
def test_what_is_not_understood_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(**{"checkpoint": "resnet20=x.pt", **changed})
