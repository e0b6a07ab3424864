"""Metrics of the stage "sensitivity" -> the table in the report: the loss if one part alone is pruned."""

from typing import Any

from measure.verdict import Part
from reports.schema import Stage

STRONGEST = 45  # percent of colour behind the worst number; with more the number is hard to read


class Cell(Part):
    """A part of the network pruned at one ratio: top-1 points lost, KL in nats, the share of all MACs saved, the colour."""

    points: float
    kl: float
    macs_saved: float
    heat: float


class Heat(Part):
    """A row per part, a column per pruning ratio; on `n` images of `split`. `top1`: of the unpruned network, in percent."""

    ratios: list[float]
    rows: list[tuple[str, int, list[Cell]]]
    n: int
    split: str
    top1: float
    importance: str


def heat(stages: list[Stage]) -> Heat | None:
    """None if the stage did not run or could prune nothing. The colour is proportional to KL; the largest is `STRONGEST`."""
    found: list[dict[str, Any]] = [s.metrics for s in stages if s.name == "sensitivity" and s.metrics.get("parts")]
    if not found:
        return None
    metrics = found[-1]
    top1: float = metrics["unpruned_top1"]
    worst = max(point["kl"] for part in metrics["parts"] for point in part["points"]) or 1.0

    def cell(point: dict[str, float]) -> Cell:
        return Cell(
            points=top1 - point["top1"],
            kl=point["kl"],
            macs_saved=point["macs_saved"],
            heat=STRONGEST * point["kl"] / worst,
        )

    return Heat(
        ratios=metrics["ratios"],
        rows=[(part["name"], part["channels"], [cell(point) for point in part["points"]]) for part in metrics["parts"]],
        n=metrics["n"],
        split=metrics["split"],
        top1=top1,
        importance=metrics["importance"],
    )
