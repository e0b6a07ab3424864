"""What the tables of pruning say about trainings with known answers."""

from benchmarks.plain import PLAIN
from benchmarks.seeds import COLUMNS, Trained, cells, markdown, verdict
from benchmarks.table import OURS
from models.cost import Cost

COST = Cost(params=1_500_000, macs=20_000_000)


def trained(name: str, *top1: float) -> Trained:
    return Trained(name, COST, list(top1), [2.0] * len(top1))


def test_differences_are_taken_seed_by_seed() -> None:
    ours, plain = cells([trained(OURS, 91.0, 93.0, 92.0), trained(PLAIN, 90.0, 92.5, 91.0)])
    assert ours[COLUMNS.index("top-1 %")] == "92.00 (91.00 … 93.00; sd 1.00)"
    assert ours[COLUMNS.index(f"points to {PLAIN}")] == "+0.83 (+0.50 … +1.00; sd 0.29)"
    assert plain[COLUMNS.index(f"points to {PLAIN}")] == "" and plain[COLUMNS.index("by seed")] == "90.00, 92.50, 91.00"


def test_one_seed_has_no_spread() -> None:
    assert cells([trained(OURS, 91.0), trained(PLAIN, 90.5)])[0][3:6] == ["91.00", "91.00", "+0.50"]


def test_the_verdict_counts_seeds_and_names_who_is_better() -> None:
    rows = [trained(OURS, 91.0, 90.0), trained(PLAIN, 90.5, 90.5), trained("third", 92.0, 90.0)]
    first, *others = verdict(rows)
    assert "with 1 of 2 seeds" in first and "- third: +0.50 (+0.00 … +1.00; sd 0.71) points" in others
    assert not [line for line in others if line.startswith(f"- {PLAIN}")]  # equal on average
    assert "none." in verdict(rows[:2])[2]


def test_a_table_has_a_cell_for_every_column() -> None:
    table = [line for line in markdown("pruning_ratio 0.5", [trained(OURS, 91.0), trained(PLAIN, 90.5)], "") if line[:1] == "|"]
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
