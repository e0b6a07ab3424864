"""OUT/run.json: the stages of a run and its results for each target. The pipeline writes it, the report reads it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from core.cache import Artifact
from core.engine_name import EngineName
from measure.gate import Gate
from measure.judge import Judge, judge_of
from measure.predictions import Predictions, read_predictions
from measure.verdict import Verdict
from reports.level import Level
from reports.schema import Dataset, Environment

RECORD = "run.json"
SAID = ("what", "verdict", "too_few", "seconds")  # of a rung of the ladder
UNPRUNED = "unpruned"  # the variant of the network as it came, in a run that searches


@dataclass(frozen=True)
class Rung:
    """An engine that the recovery ladder tried: the change (`what`), its verdict on the images that choose, the seconds to
    build and evaluate it. `too_few`: with so few images no further rung was tried. `placed` is its float32 file with Q/DQ;
    None for runs of earlier versions.
    """

    name: EngineName
    what: str
    verdict: Verdict
    too_few: bool
    seconds: float
    placed: Artifact | None = None


@dataclass(frozen=True)
class TargetResult:
    """The results for one target.

    unavailable    why no engine can be built here; then `bundle` may have the files that the device builds from
    cannot_run     why the engines cannot run here; then there are no predictions and no latency
    refused        {engine: why it could not be built, run, timed or packed}
    climbed_for    the gate that the recovery ladder was last considered for; None where no engine can run
    held_out       the predictions of all engines that could run, for the images that choose
    predictions    the predictions of the baseline and of the judged engines, for the images that judge
    judged         the engines that were judged, from the mildest to the one that was chosen
    alone          memory and time to the first inference of the same engines; none for runs of earlier versions
    candidate      the engine that ships if it passes: one of `judged`, where engines can run; None if no engine could ship
    """

    target: str
    unavailable: str | None = None
    cannot_run: str | None = None
    engines: Mapping[EngineName, Artifact] = field(default_factory=dict)
    refused: Mapping[EngineName, str] = field(default_factory=dict)
    held_out: Mapping[EngineName, Artifact] = field(default_factory=dict)
    predictions: Mapping[EngineName, Artifact] = field(default_factory=dict)
    judged: tuple[EngineName, ...] = ()
    latency: Artifact | None = None
    alone: Mapping[EngineName, Artifact] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    climbed_for: Gate | None = None
    candidate: EngineName | None = None
    bundle: Artifact | None = None

    @property
    def baseline(self) -> EngineName:
        return EngineName.baseline(self.target)

    @property
    def candidate_name(self) -> EngineName:
        """The name of the candidate; without a candidate INT8, for the row with the reason."""
        return self.candidate or EngineName("student", "int8", "", self.target)

    @cached_property
    def predicted(self) -> dict[EngineName, Predictions]:
        """The predictions for the images that judge."""
        return {name: read_predictions(stage.path) for name, stage in self.predictions.items()}

    @cached_property
    def predicted_held_out(self) -> dict[EngineName, Predictions]:
        """The predictions for the images that choose."""
        return {name: read_predictions(stage.path) for name, stage in self.held_out.items()}

    @property
    def reason(self) -> str | None:
        """Why its rows do not have all values."""
        return self.cannot_run

    def image(self, i: int) -> int:
        """The place among the test images of the image that prediction `i` is of."""
        return i

    def judged_by(self, judge: Judge) -> Judge:
        """The judge of its predictions; `judge` is that of all test images."""
        return judge

    @property
    def compared(self) -> bool:
        """Whether there are predictions of the baseline and of the candidate."""
        return {self.baseline, self.candidate_name} <= self.predictions.keys()

    @property
    def timed(self) -> dict[str, Any]:
        """The metrics of measure/latency.py `latency`."""
        return self.latency.metrics if self.latency else {"timed": {}}

    def measured_alone(self, name: EngineName) -> dict[str, Any]:
        """The fields of measure/alone.py for the engine; none if it was not measured."""
        measured = self.alone[name].metrics if name in self.alone else {}
        return {key: value for key, value in measured.items() if key != "notes"}


@dataclass(frozen=True)
class RunRecord:
    """A finished run. `students` are the FP32 ONNX exports by variant, `stages` all stages in the order of their use.

    `checked` has the images that count in a verdict; None for runs of earlier versions. `levels` are those that the search
    tried, if there was one. `notes` are those of the run itself and not of a stage.
    """

    created: str
    command: str
    seconds: float
    model: str
    gate: Gate
    latency_limit: float | None
    requested: list[str]
    environment: Environment
    images: Artifact
    checked: Artifact | None
    baseline: Artifact
    students: Mapping[str, Artifact]
    stages: list[Artifact]
    targets: list[TargetResult]
    levels: Sequence[Level] = ()
    notes: Sequence[str] = ()

    def exported(self, name: EngineName) -> Artifact:
        """The export, in FP32 ONNX, that the engine was built from."""
        return self.baseline if name.network == "baseline" else self.students[name.variant]

    @cached_property
    def judge(self) -> Judge:
        return judge_of(self.gate, self.images.path, self.checked.path if self.checked else None, "test")

    @cached_property
    def chooser(self) -> Judge:
        """Judges on the images that choose."""
        return judge_of(self.gate, self.images.path, self.checked.path if self.checked else None, "val")

    @property
    def dataset(self) -> Dataset:
        described = json.loads((self.images.path / "dataset.json").read_text())
        return Dataset(**{key: described[key] for key in Dataset.model_fields if key in described})

    def write(self, out: Path) -> None:
        """Write run.json: stages as their folders, relative to `out`; engines as their names without the target."""

        def path(stage: Artifact) -> str:
            return str(stage.path.relative_to(out))

        def paths(stages: Mapping[EngineName, Artifact]) -> dict[str, str]:
            return {name.key: path(stage) for name, stage in stages.items()}

        def target(result: TargetResult) -> dict[str, Any]:
            return {
                "target": result.target,
                "unavailable": result.unavailable,
                "cannot_run": result.cannot_run,
                "engines": paths(result.engines),
                "refused": {name.key: reason for name, reason in result.refused.items()},
                "held_out": paths(result.held_out),
                "predictions": paths(result.predictions),
                "judged": [name.key for name in result.judged],
                "latency": path(result.latency) if result.latency else None,
                "alone": paths(result.alone),
                "rungs": [
                    {
                        "row": rung.name.key,
                        "what": rung.what,
                        "verdict": rung.verdict,
                        "too_few": rung.too_few,
                        "seconds": rung.seconds,
                        "placed": path(rung.placed) if rung.placed else None,
                    }
                    for rung in result.rungs
                ],
                "climbed_for": result.climbed_for.model_dump() if result.climbed_for else None,
                "candidate": result.candidate.key if result.candidate else None,
                "bundle": path(result.bundle) if result.bundle else None,
            }

        record = {
            "created": self.created,
            "command": self.command,
            "seconds": self.seconds,
            "model": self.model,
            "gate": self.gate.model_dump(),
            "latency_limit": self.latency_limit,
            "requested": self.requested,
            "environment": self.environment.model_dump(),
            "images": path(self.images),
            "checked": path(self.checked) if self.checked else None,
            "baseline": path(self.baseline),
            "students": {variant: path(stage) for variant, stage in self.students.items()},
            "stages": [{"path": path(s), "cached": s.manifest["cached"], "name": s.manifest["name"]} for s in self.stages],
            "targets": [target(result) for result in self.targets],
            "levels": [{**vars(level), "drop": level.drop.model_dump()} for level in self.levels],
            "notes": list(self.notes),
        }
        (out / RECORD).write_text(json.dumps(record, indent=1))


def targets_before(out: Path) -> dict[str, TargetResult]:
    """The results of the last finished run in `out` by target; none if there is no such run, or if its stages are gone."""
    try:
        return {result.target: result for result in read_record(out).targets}
    except (OSError, KeyError, ValueError):
        return {}


def judged_before(entry: dict[str, Any]) -> list[str]:
    """The engine that a run of an earlier version judged: its candidate, if that was measured."""
    candidate = str(entry.get("candidate"))
    return [candidate] if candidate in entry.get("predictions", {}) else []


def read_record(out: Path) -> RunRecord:
    """The run in the folder `out`. Raises ValueError if there is none."""
    if not (out / RECORD).exists():
        raise ValueError(f"no finished run in {out} ({RECORD} is missing); run `make compress OUT={out}` first")
    record = json.loads((out / RECORD).read_text())

    def stage(path: str, **changes: Any) -> Artifact:
        return Artifact(out / path, {**json.loads((out / path / "manifest.json").read_text()), **changes})

    def target(entry: dict[str, Any]) -> TargetResult:
        name = entry["target"]

        def named(key: str) -> EngineName:
            return EngineName.parse(f"{key}/{name}")

        def optional(key: str, entry: dict[str, Any] = entry) -> Artifact | None:
            return stage(entry[key]) if entry.get(key) else None

        return TargetResult(
            target=name,
            unavailable=entry.get("unavailable"),
            cannot_run=entry.get("cannot_run"),
            engines={named(key): stage(path) for key, path in entry.get("engines", {}).items()},
            refused={named(key): reason for key, reason in entry.get("refused", {}).items()},
            held_out={named(key): stage(path) for key, path in entry.get("held_out", {}).items()},
            predictions={named(key): stage(path) for key, path in entry.get("predictions", {}).items()},
            judged=tuple(named(key) for key in entry.get("judged", judged_before(entry))),
            latency=optional("latency"),
            alone={named(key): stage(path) for key, path in entry.get("alone", {}).items()},
            rungs=tuple(
                Rung(named(rung["row"]), **{key: rung[key] for key in SAID}, placed=optional("placed", rung))
                for rung in entry.get("rungs", [])
                if "verdict" in rung  # earlier versions wrote whether it passes on the test images
            ),
            climbed_for=Gate(**entry["climbed_for"]) if entry.get("climbed_for") else None,
            candidate=named(entry["candidate"]) if entry.get("candidate") else None,
            bundle=optional("bundle"),
        )

    return RunRecord(
        created=record["created"],
        command=record["command"],
        seconds=record["seconds"],
        model=record["model"],
        gate=Gate(**record["gate"]),
        latency_limit=record.get("latency_limit"),
        requested=record["requested"],
        environment=Environment(**record["environment"]),
        images=stage(record["images"]),
        checked=stage(record["checked"]) if record.get("checked") else None,
        baseline=stage(record["baseline"]),
        students={variant: stage(path) for variant, path in record["students"].items()},
        stages=[stage(entry["path"], cached=entry["cached"], name=entry["name"]) for entry in record["stages"]],
        targets=[target(entry) for entry in record["targets"]],
        levels=[Level(**entry) for entry in record.get("levels", [])],
        notes=record.get("notes", []),
    )
