"""An untrained network says what a trained one would: whether a budget without times can be met."""

from pathlib import Path
from typing import Any

import pytest

from compress.budget import Budget
from compress.derive import Derive
from compress.possible import Possible, possible
from compress.prune import Prune
from compress.search import Search, search
from models.checkpoint import save, untrained
from tests.conftest import Small

OWN = "tests.compress.parts:own_network"


def engine(network: Any, target: str, **_: Any) -> float:
    return 1000.0 + sum(parameter.numel() for parameter in network.parameters())


def smallest(small: Small, out: Path, **config: Any) -> dict[str, float]:
    given = {"budget": Budget(max_params=1e9, max_size={"onnxruntime": 1e9}), **config}
    found: dict[str, float] = possible(Possible(**given), out, images=small.images, size=engine)["smallest"]
    return found


@pytest.mark.parametrize("arch", ["resnet20", OWN])
@pytest.mark.parametrize("residual", [False, True])
def test_it_is_as_small_as_what_the_search_finds_on_the_trained_network(
    arch: str, residual: bool, small: Small, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    save(*untrained(arch, 10, 1), tmp_path / "model")
    config = Search(budget=Budget(max_params=1e9), prune=Prune(residual=residual))
    found = search(config, tmp_path, model=tmp_path / "model", images=small.images, baseline=tmp_path, trial=engine)
    mine = smallest(small, tmp_path, arch=arch, prune=Prune(residual=residual))
    assert {key: mine[key] for key in ("params", "macs")} == found["smallest"]
    assert mine["size@onnxruntime"] == 1000 + found["smallest"]["params"]


def test_a_student_with_fewer_blocks_is_smaller(small: Small, tmp_path: Path) -> None:
    whole, student = (smallest(small, tmp_path, arch="resnet20", student=Derive(depths=depths)) for depths in (None, (1, 1, 1)))
    assert student["params"] < whole["params"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(max_params=100),
            r"BUDGET params=100 cannot be met: at its smallest widths resnet20 has [\d,]+ params; allow more",
        ),
        (Budget(max_macs=100), r"BUDGET macs=100 cannot be met: at its smallest widths resnet20 has [\d,]+ macs; allow more"),
        (Budget(max_size={"openvino": 100}), r"BUDGET size=0.0001MB@openvino cannot be met: .* has .* MB on openvino"),
        (Budget(max_params=1e9, max_macs=100, max_latency={"onnxruntime": 1e-9}), r"BUDGET macs=100 cannot be met"),
    ],
)
def test_an_impossible_budget_is_refused_with_the_least_there_is(
    budget: Budget, message: str, small: Small, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        possible(Possible(arch="resnet20", budget=budget), tmp_path, images=small.images, size=engine)


def test_times_are_left_to_the_search(small: Small, tmp_path: Path) -> None:
    budget = Budget(max_params=1e9, max_latency={"onnxruntime": 1e-9}, min_speedup={"onnxruntime": 1e9})
    possible(Possible(arch="resnet20", budget=budget), tmp_path, images=small.images, size=engine)
