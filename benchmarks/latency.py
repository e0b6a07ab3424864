"""Does a latency repeat? The latency stage of two engines of a finished run, several times on this machine.

    python -m benchmarks.latency runs/resnet50 --target onnxruntime --runs 20

Two runs agree if the intervals that they state for p50 of the baseline / p50 of the engine overlap.
"""

import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import with_section
from core.console import console
from core.text import joined
from export import targets
from measure.engines import Measure
from measure.latency import latency
from reports.run_folder import TargetResult, read_record

PACKAGES = ("onnxruntime", "openvino", "numpy")
GOAL = 19 / 20  # of the pairs of runs


@dataclass(frozen=True)
class Run:
    """One run of the stage: the ratio of p50, its interval, and the turns that stayed disturbed (None: not watched) of all."""

    ratio: float
    low: float
    high: float
    disturbed: int | None
    turns: int


def main(
    out: Annotated[Path, typer.Argument(help="folder of a finished run")],
    target: Annotated[str, typer.Option(help="one of its targets")] = "onnxruntime",
    runs: Annotated[int, typer.Option(min=2, help="of the latency stage")] = 20,
    queries: Annotated[int, typer.Option(min=1, help="per engine in one run")] = Measure().queries,
    warmup: Annotated[float, typer.Option(min=0, help="seconds before every turn")] = Measure().warmup,
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Time the baseline and the engine that ships of the run in OUT, again and again."""
    record = read_record(out)
    config = Measure(queries=queries, warmup=warmup, throughput=())
    done = repeated(result_of(record.targets, target, out), config, record.images.path, runs)
    lines = [f"{conditions('benchmarks.latency', PACKAGES)}.", "", *markdown(done), "", verdict(done)]
    console.print("\n".join(lines[2:]), markup=False)
    results.write_text(with_section(results.read_text() if results.exists() else "", f"{record.model}, latency again", lines))
    console.print(f"written to {results}", markup=False)


def result_of(found: list[TargetResult], target: str, out: Path) -> TargetResult:
    """The result of `target`; ValueError if that has no two engines which run here."""
    able = {each.target: each for each in found if each.latency and each.candidate and each.baseline in each.engines}
    if target not in able:
        raise ValueError(
            f"target {target} of {out} has no two measured engines; expected {joined(list(able)) or 'another run'}"
        )
    return able[target]


def repeated(result: TargetResult, config: Measure, images: Path, runs: int) -> list[Run]:
    """`runs` runs of the latency stage; each opens the engines anew."""
    assert result.candidate is not None
    baseline, candidate = result.baseline.key, result.candidate.key
    engines = {name.key: result.engines[name].path for name in (result.baseline, result.candidate)}
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            load = targets.get(result.target).load
            metrics = latency(config, Path(folder), load=load, engines=engines, images=images)
        low, high = metrics["ratios"][baseline][candidate]
        timed, machine = metrics["timed"], metrics["machine"]
        turns = sum(len(each["turns"]) for each in timed.values())
        found.append(Run(timed[baseline]["p50"] / timed[candidate]["p50"], low, high, machine.get("disturbed"), turns))
    return found


def markdown(runs: list[Run]) -> list[str]:
    lines = ["| run | p50 of FP32 / p50 of the engine [95 %] | disturbed turns |", "|---|---|---|"]
    for i, run in enumerate(runs, start=1):
        disturbed = "not watched" if run.disturbed is None else f"{run.disturbed} of {run.turns}"
        lines.append(f"| {i} | {run.ratio:.3f} [{run.low:.3f}, {run.high:.3f}] | {disturbed} |")
    return lines


def verdict(runs: list[Run]) -> str:
    """In how many pairs of runs the intervals overlap."""
    pairs = list(combinations(runs, 2))
    agree = sum(a.low <= b.high and b.low <= a.high for a, b in pairs)
    met = "met" if agree >= GOAL * len(pairs) else "missed"
    return f"The intervals overlap in {agree} of {len(pairs)} pairs of runs. Goal: 19 of 20, {met}."


if __name__ == "__main__":
    started_with(main)
