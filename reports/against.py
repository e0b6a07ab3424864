"""A run and an earlier one -> what was lost and gained in between, by the rules of the gate: against.json, against.md.

For each target, the engine of this run is judged against the one of the earlier run as a candidate is against its baseline.
Only images that both runs judge on, paired by the digest of their pixels: files may have been renamed, added or removed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.text import some
from data.signatures import signatures_of
from measure.gate import exit_code as exit_code_of
from measure.gate import worst
from measure.judge import Judge
from measure.predictions import Predictions
from measure.verdict import ClassLoss, Drop, Part, Verdict
from reports.changes import changes
from reports.on_device import read_run
from reports.render import environment, write
from reports.rows import collect
from reports.run_folder import RunRecord
from reports.schema import Report, Row
from reports.summary import candidate, drop_text, size_text


class Pair(Part):
    """A target: the engine that ships if it passes, in the earlier run and in this one.

    `drop` and `per_class` as between a baseline (`old`) and a candidate (`new`). "unmeasured": one of them has no predictions.
    """

    target: str
    old: Row | None
    new: Row | None
    verdict: Literal["pass", "fail", "inconclusive", "unmeasured"]
    drop: Drop | None = None
    per_class: list[ClassLoss] = Field(default_factory=list)

    @property
    def engines(self) -> str:
        return " → ".join(row.name.key if row else "none" for row in (self.old, self.new))

    @property
    def lost(self) -> str:
        return drop_text(self.drop)

    @property
    def size(self) -> str:
        return size_text(self.old, self.new) if self.new else "–"


class Against(Part):
    """The whole comparison. `changes` lists what differs between the runs besides their results."""

    schema_: Literal["respress.against/1"] = Field(default="respress.against/1", alias="schema")
    model: str
    dataset: str
    old: str
    images: int
    gate: str
    strict: bool
    verdict: Verdict
    pairs: list[Pair]
    changes: list[str]


@dataclass(frozen=True)
class Images:
    """The test images that both runs judge on: their places in the earlier run, in this one, and their labels in this one."""

    before: NDArray[np.int64]
    now: NDArray[np.int64]


def against(out: Path, earlier: Path) -> Against:
    """Compare the run in `out` with that in `earlier`, by the gate of `out`.

    Raises ValueError if one of them is no finished run, and if they have no test image or not all classes in common.
    """
    old, new = read_run(earlier), read_run(out)
    reports = collect(earlier), collect(out)
    images = paired(old, new)
    classes = places(old.dataset.classes, new.dataset.classes)
    judge = Judge(new.gate, None, new.dataset.classes)
    targets = dict.fromkeys(row.on for report in reports for row in report.rows)
    pairs = [pair_of(target, old, new, reports, images, classes, judge) for target in targets]
    pairs = [pair for pair in pairs if pair.old or pair.new]
    verdicts: list[Verdict] = [pair.verdict for pair in pairs if pair.verdict != "unmeasured"]
    if new.gate.strict and len(verdicts) < len(pairs):
        verdicts.append("inconclusive")
    return Against(
        model=new.model,
        dataset=new.dataset.name,
        old=str(earlier),
        images=len(images.now),
        gate=new.gate.text,
        strict=new.gate.strict,
        verdict=worst(verdicts),
        pairs=pairs,
        changes=changes(old, new),
    )


def paired(old: RunRecord, new: RunRecord) -> Images:
    """Each distinct image once; only those that count in the verdicts of both runs."""
    earlier, current = (signatures_of(run.images.path, "test").digests for run in (old, new))
    _, before, now = np.intersect1d(earlier, current, return_indices=True)
    counts = np.ones(len(now), bool)
    for counted, chosen in ((old.judge.counted, before), (new.judge.counted, now)):
        if counted is not None:
            counts &= counted[chosen]
    before, now = before[counts], now[counts]
    if not len(now):
        raise ValueError(
            f"the runs have no test image in common ({len(earlier):,} and {len(current):,} images); expected two runs on the "
            "same images: pass another AGAINST"
        )
    return Images(before, now)


def places(old: list[str], new: list[str]) -> NDArray[np.int64]:
    """The place in `new` of every class of `old`: the order of the classes may differ between the runs."""
    if only := set(old) ^ set(new):
        raise ValueError(f"the runs have other classes (only one of them has {some(sorted(only))}); pass another AGAINST")
    return np.asarray([new.index(name) for name in old])


def pair_of(
    target: str,
    old: RunRecord,
    new: RunRecord,
    reports: tuple[Report, Report],
    images: Images,
    classes: NDArray[np.int64],
    judge: Judge,
) -> Pair:
    before, now = (candidate(report, target) for report in reports)
    was, is_ = predictions_of(old, before), predictions_of(new, now)
    if was is None or is_ is None:
        return Pair(target=target, old=before, new=now, verdict="unmeasured")
    labels = is_.labels[images.now]
    earlier = Predictions(renamed(was.top5[images.before], classes), labels)
    current = Predictions(is_.top5[images.now], labels)
    drop = judge.drop(earlier, current)
    per_class = judge.per_class(earlier, current)
    return Pair(target=target, old=before, new=now, verdict=drop.verdict, drop=drop, per_class=per_class)


def predictions_of(run: RunRecord, row: Row | None) -> Predictions | None:
    if row is None:
        return None
    (result,) = (result for result in run.targets if result.target == row.on)
    return result.predicted.get(row.name)


def renamed(top5: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """`top5` with the numbers of the other run; a network may have more classes than the data has names: they stay."""
    more = np.arange(len(classes), max(len(classes), int(top5.max()) + 1))
    return np.concatenate([classes, more])[top5]


def exit_code(found: Against) -> int:
    """1 if an engine fails against the earlier one, with STRICT also if one is inconclusive or unmeasured; otherwise 0."""
    return exit_code_of(found.verdict, found.strict, missing_requested=False)


def write_against(found: Against, out: Path) -> None:
    write(out / "against.json", found.model_dump_json(indent=1) + "\n")
    write(out / "against.md", environment().get_template("against.md.j2").render(found=found))
