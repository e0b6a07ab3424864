"""What the tables of pruning say about trainings with known answers."""

from benchmarks.seeds import ALONE, COLUMNS, DISTILLED, LIKE_FOR_LIKE, Trained, cells, markdown, verdict
from benchmarks.table import OURS
from models.cost import Cost

COST = Cost(params=1_500_000, macs=20_000_000)


def trained(tool: str, *top1: float, way: str = DISTILLED) -> Trained:
    return Trained(tool, way, COST, list(top1), [2.0] * len(top1))


def test_differences_are_taken_seed_by_seed() -> None:
    ours, plain = cells([trained(OURS, 91.0, 93.0, 92.0), trained("plain", 90.0, 92.5, 91.0)])
    assert ours[COLUMNS.index("top-1 %")] == "92.00 (91.00 … 93.00; sd 1.00)"
    assert plain[COLUMNS.index(LIKE_FOR_LIKE)] == "+0.83 (+0.50 … +1.00; sd 0.29)"
    assert ours[COLUMNS.index(LIKE_FOR_LIKE)] == "" and plain[COLUMNS.index("by seed")] == "90.00, 92.50, 91.00"


def test_a_network_is_compared_with_ours_that_was_trained_in_the_same_way() -> None:
    rows = [trained(OURS, 91.0), trained(OURS, 90.0, way=ALONE), trained("plain", 90.5), trained("plain", 89.0, way=ALONE)]
    assert [texts[COLUMNS.index(LIKE_FOR_LIKE)] for texts in cells(rows)] == ["", "", "+0.50", "+1.00"]


def test_one_seed_has_no_spread() -> None:
    assert cells([trained(OURS, 91.0), trained("plain", 90.5)])[1][4:7] == ["90.50", "90.50", "+0.50"]


def test_the_verdict_is_against_the_best_other_network_and_counts_seeds() -> None:
    rows = [
        trained(OURS, 91.0, 90.0),
        trained("plain", 88.0, 88.0),
        trained("better", 92.0, 89.8),
        trained(OURS, 89.0, 89.0, way=ALONE),
    ]
    rows.append(trained("plain", 88.0, 88.0, way=ALONE))
    _, _, distilled, alone = verdict(rows)
    assert distilled.startswith(f"- distilled: {OURS} has -0.40 (-1.00 … +0.20; sd 0.85) points to better")
    assert distilled.endswith("with 1 of 2 seeds.") and "points to plain, and is more accurate with 2 of 2 seeds" in alone


def test_a_table_has_a_cell_for_every_column() -> None:
    lines = markdown("pruning_ratio 0.5", [trained(OURS, 91.0), trained("plain", 90.5)], ["as many MACs"])
    table = [line for line in lines if line[:1] == "|"]
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1 and "- as many MACs" in lines
