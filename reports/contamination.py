"""Contamination: the baseline is far better on the images that choose than on those that judge, as if it knew the former."""

from collections.abc import Iterator

from measure.statistics import p_better
from reports.schema import Row

SIGNIFICANCE = 0.05
POINTS = 2.0


def contamination_notes(rows: list[Row]) -> Iterator[str]:
    """At most one note: the baselines of all targets are the same network."""
    measured = [(row.chosen_on, row.accuracy) for row in rows if row.network == "baseline"]
    for chosen, judged in measured[:1]:
        if chosen is None or chosen.top1 is None or judged is None or chosen.top1 - judged.top1 <= POINTS:
            continue
        if p_better(round(chosen.n * chosen.top1 / 100), chosen.n, judged.correct, judged.n) < SIGNIFICANCE:
            yield (
                f"The FP32 baseline gets {chosen.top1:.2f} % of the {chosen.n:,} images right that choose, and "
                f"{judged.top1:.2f} % of the {judged.n:,} that judge: it was trained on some of the images that choose "
                "(contamination), or those that judge are of another kind. The verdict is not affected, but another engine may "
                "be the better choice: choose on images like those that judge, which the network has not seen (val/)."
            )
